"""Grades as files that other programs read."""

import csv
import os
import tempfile
from pathlib import Path

from quizzes.grading.gradebook import Gradebook, Row

GRADES = "grades.csv"
COLUMNS = ("student", "lesson", "points", "max_points", "status")


def write_grades(gradebook: Gradebook, folder: Path) -> Path:
    """Write grades.csv, a row for each student and lesson. The file is replaced whole."""
    path = folder / GRADES
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, newline="", encoding="utf-8") as draft:
        rows = csv.writer(draft)
        rows.writerow(COLUMNS)
        rows.writerows(_cells(row) for row in gradebook.rows())
    os.chmod(draft.name, 0o644)
    os.replace(draft.name, path)
    return path


def _cells(row: Row) -> list[str]:
    return [_inert(row.student), row.lesson, f"{row.points:g}", f"{row.max_points:g}", _inert(row.status)]


def _inert(value: str) -> str:
    """Text that a spreadsheet will not take for a formula: a student chooses the names of files and exceptions."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
