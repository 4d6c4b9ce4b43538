"""What a learner has earned, in one small file in the user's data folder; never in the repository."""

import json
import os
from pathlib import Path

import platformdirs

from lessons_lib.files import atomic

APPLICATION = "model-compression-measured"


def progress_file() -> Path:
    """Where progress is kept: $COURSE_DATA/progress.json, else in the user's data folder."""
    folder = os.environ.get("COURSE_DATA") or platformdirs.user_data_dir(APPLICATION)
    return Path(folder) / "progress.json"


def load() -> dict[str, dict[str, float]]:
    """Points by lesson and by exercise or question, {"01": {"quantize": 2.0, "question 3": 1.0}}.

    A damaged file is put aside under another name and counts as empty, so that no lesson fails because of it.
    """
    path = progress_file()
    try:
        scores = json.loads(path.read_text())
        return {lesson: {item: float(points) for item, points in items.items()} for lesson, items in scores.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError):
        path.replace(path.with_suffix(".damaged"))
        return {}


def record(lesson: str, item: str, points: float) -> None:
    """Keep the best points for an exercise or question. The file is replaced whole, so it is never half written."""
    scores = load()
    earned = scores.setdefault(lesson, {})
    if points <= earned.get(item, -1.0):
        return
    earned[item] = points
    atomic.write_text(progress_file(), json.dumps(scores, indent=1, sort_keys=True))


def earned(lesson: str) -> dict[str, float]:
    """Points of one lesson by exercise or question."""
    return load().get(lesson, {})
