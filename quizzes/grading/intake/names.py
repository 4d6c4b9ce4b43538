"""Who handed something in, read off the name of its place, and names that are safe to use for files.

Canvas and Moodle each write a person's name, and what else they know, into the names inside a bulk download.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass

MAX_FOLDER_CHARACTERS = 80
# Moodle: "Ann Lee_4711_assignsubmission_file_/03_x.ipynb", or flat with the file's name behind the last underscore.
MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?P<kind>[a-z]+)(?:_(?P<file>.*))?", re.DOTALL)
# Canvas: "leeann_LATE_4711_815_03_x.ipynb": sortable name, user, attachment, file. Anonymous: "anon_a1B2c_815_...".
CANVAS = re.compile(
    r"(?:anon_(?:(?P<late2>LATE)_)?(?P<anonymous>[0-9A-Za-z]{5})|(?P<name>\w+?)_(?:(?P<late>LATE)_)?(?P<id>\d+))"
    r"_(?P<attachment>\d+)_(?P<file>.+)",
    re.DOTALL,
)
# Names that Windows keeps for itself, whatever the extension.
RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True)
class Place:
    """What a path says: whose it is, the name of the file as it was handed in, and what the system knew besides."""

    student: str
    file: str
    canvas_id: str = ""
    moodle_id: str = ""
    late: bool = False
    canvas: bool = False  # named by Canvas, which tells no time, also where it hides who it is


def clean(name: str) -> str:
    """A name as it is compared and kept: one form of each character, single spaces. Never empty."""
    return " ".join(unicodedata.normalize("NFC", name).split()) or "(no name)"


def folded(name: str) -> str:
    """A name for matching: letters and digits alone, without case and accents."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in plain if character.isalnum())


def place(parts: tuple[str, ...]) -> Place | None:
    """Whose file lies at this path, by Canvas's or Moodle's way of writing it; None when it is neither's.

    Only the outermost name counts: what lies inside a student's folder is named by the student.
    """
    rest = "/".join(parts[1:])
    match = MOODLE.fullmatch(parts[0])
    if match and (rest or match["file"]):
        return Place(clean(match["name"]), rest or match["file"], moodle_id=match["id"])
    match = None if rest else CANVAS.fullmatch(parts[0])
    if match is None:
        return None
    late = bool(match["late"] or match["late2"])
    if match["anonymous"]:
        return Place(f"anon_{match['anonymous']}", match["file"], late=late, canvas=True)
    # Canvas's numbers tell two people of one name apart, and are what its gradebook knows them by.
    student = clean(f"{match['name']}_{match['id']}")
    return Place(student, match["file"], canvas_id=match["id"], late=late, canvas=True)


def folder_name(student: str) -> str:
    """A name for a student's folder that every file system takes, that leads nowhere else, and is theirs alone."""
    safe = "".join(character if character.isalnum() or character in " .@+-_" else "_" for character in student)
    safe = safe.strip(" .")[:MAX_FOLDER_CHARACTERS].strip(" .")
    while len(safe.encode("utf-8", "replace")) > 2 * MAX_FOLDER_CHARACTERS:
        safe = safe[:-1].strip(" .")
    if safe and safe == student and not RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe}-{digest}" if safe else digest
