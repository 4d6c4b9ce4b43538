"""Zips, read without unpacking: nothing is ever written under a name that somebody else chose.

A member is read into memory, up to a limit that counts what comes out, whatever its header claims.
"""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from quizzes.grading.intake.submission import MAX_NOTEBOOK_BYTES, Unreadable

MAX_DIRECTORY_BYTES = 32 * 2**20  # of a class's zip: some 300,000 files
MAX_OWN_DIRECTORY_BYTES = 2**20  # of a student's zip
END, END_64 = b"PK\x05\x06", b"PK\x06\x07"
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Member:
    """One file in a zip: its path in parts, and when it was changed there."""

    archive: "Archive"
    info: zipfile.ZipInfo
    parts: tuple[str, ...]

    @property
    def changed(self) -> datetime | None:
        """When it was last changed, in local time; None when the zip holds no date."""
        try:
            return datetime(*self.info.date_time).astimezone()
        except (ValueError, OverflowError, OSError):
            return None

    def read(self) -> bytes:
        """The content. Raises Unreadable for a link, a size over the limit, and whatever cannot be decoded."""
        return self.archive.read(self.info)


class Archive:
    """A zip on disk or in memory. Raises Unreadable when it is none, or has too many files to list."""

    def __init__(self, source: Path | bytes, max_directory_bytes: int = MAX_DIRECTORY_BYTES):
        try:
            stream = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        try:
            if _directory_bytes(stream) > max_directory_bytes:
                raise Unreadable("lists more files than are read")
            self.zip = zipfile.ZipFile(stream)
        except Unreadable:
            stream.close()
            raise
        except Exception as error:  # zipfile raises a dozen kinds for damaged files
            stream.close()
            raise Unreadable("is not a zip, or a damaged one") from error

    def __iter__(self) -> Iterator[Member]:
        for info in self.zip.infolist():
            parts = _parts(_name(info))
            if parts and not info.is_dir():
                yield Member(self, info, parts)

    def read(self, info: zipfile.ZipInfo) -> bytes:
        """A member's content. Raises Unreadable."""
        if stat.S_ISLNK(info.external_attr >> 16):
            raise Unreadable("is a link, not a file")
        if info.flag_bits & 1:
            raise Unreadable("is encrypted")
        if info.compress_type not in METHODS:
            raise Unreadable("is packed in a way that is not read; pack it with deflate")
        try:
            with self.zip.open(info) as stream:
                data = stream.read(MAX_NOTEBOOK_BYTES + 1)
        except Exception as error:
            raise Unreadable("cannot be unpacked: the zip is damaged") from error
        if len(data) > MAX_NOTEBOOK_BYTES:
            raise Unreadable(f"has more than {MAX_NOTEBOOK_BYTES // 2**20} MB; at most that much is read")
        return data

    def close(self) -> None:
        """Let go of the file."""
        self.zip.fp.close()
        self.zip.close()


def _directory_bytes(stream) -> int:
    """Size of the list of files, read before it is loaded: a small zip can list millions of them."""
    stream.seek(0, io.SEEK_END)
    size = stream.tell()
    stream.seek(max(0, size - 2**16 - 22 - 20))
    tail = stream.read()
    end = tail.rfind(END)
    if end < 0 or len(tail) < end + 22:
        raise Unreadable("is not a zip, or one that was cut off")
    listed = struct.unpack_from("<L", tail, end + 12)[0]
    wide = tail.rfind(END_64, 0, end)
    if wide >= 0 and end - wide == 20:
        (offset,) = struct.unpack_from("<Q", tail, wide + 8)
        if offset + 56 > size:
            raise Unreadable("is not a zip, or a damaged one")
        stream.seek(offset)
        listed = struct.unpack_from("<Q", stream.read(56), 40)[0]
    stream.seek(0)
    return listed


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name. Some programs write UTF-8 without saying so; zipfile then takes it for the old DOS letters."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _parts(name: str) -> tuple[str, ...]:
    """The path in parts, without what leads elsewhere; empty for hidden files and what macOS adds."""
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return () if any(part.startswith(".") or part == "__MACOSX" for part in parts) else parts
