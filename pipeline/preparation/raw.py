"""Raw files where they lie: on disk, or in a zip that is read as it is."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

LIMIT = 1 << 28  # bytes of one file: NTU's longest recording has a twentieth of it
TORN_ZIP = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # what a damaged one raises
ENCRYPTED = 1  # of a zip member's flags


@dataclass(frozen=True)
class RawFile:
    """A file on disk, or a member of a zip on disk; `size` in bytes and `stamp` tell whether it has changed since.

    `below` is its place among the raw files: the same from wherever they are looked at. `shown` is what it is called in
    a report, where its name alone does not tell it from the others.
    """

    path: Path
    member: str = ""
    size: int = 0
    stamp: str = ""
    shown: str = ""
    below: str = ""

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def called(self) -> str:
        return self.shown or self.name

    @property
    def place(self) -> str:
        """Where the file lies, for messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self, limit: int = LIMIT) -> bytes:
        """All its bytes; ValueError where there are more than `limit`, or a zip does not give them as it says."""
        content = self._member(limit) if self.member else self._file(limit)
        if len(content) > limit:
            raise ValueError(f"more than {limit:,} bytes; no skeleton file is that large")
        return content

    def _file(self, limit: int) -> bytes:
        if self.path.is_dir():
            raise ValueError("a folder, wanted a file")
        if self.path.is_symlink() and not self.path.exists():
            raise ValueError("a link that leads nowhere")
        if self.path.exists() and not self.path.is_file():
            raise ValueError("a device or a pipe, wanted a file")
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # a buffer of the limit's size would cost more than reading
            return file.read(min(size, limit) + 1)

    def _member(self, limit: int) -> bytes:
        try:
            with _archive(self.path, self.path.stat().st_ctime_ns).open(self.member) as file:
                return file.read(limit + 1)
        except TORN_ZIP as error:
            raise ValueError(f"damaged in its zip ({error})") from error


def stamp_of(found: os.stat_result) -> str:
    """When a file was written, and which one it is: folders that change places hold the same names and times."""
    return f"{found.st_mtime_ns}:{found.st_ino}"


@lru_cache(4)
def _archive(path: Path, changed: int) -> ZipFile:
    """The zip, opened once a process: its list of members may be long."""
    return ZipFile(path)


def find_raw(raw: Path, pattern: str, expected: str) -> list[RawFile]:
    """The files whose name fits `pattern`: under a folder, in zips in it, or in the zip `raw`; sorted by stem.

    Raises FileNotFoundError or ValueError, with what was there instead of `expected`, where there are none.
    """
    if not raw.exists():
        raise FileNotFoundError(f"{raw}: no such folder; give the folder or zip that holds {expected}")
    if not raw.is_dir() and raw.suffix.lower() != ".zip":
        raise ValueError(f"{raw}: a file; give the folder or zip that holds {expected}")
    there = [replace(file, below=_below(file, raw)) for file in _walk(raw)]
    found = [file for file in there if fnmatchcase(file.name.lower(), pattern.lower())]
    if not found:
        raise ValueError(f"{raw}: holds no {expected}; {_what_is_there(there)}")
    names = Counter(file.name for file in found)
    told_apart = [replace(file, shown=file.below) if names[file.name] > 1 else file for file in found]
    return sorted(told_apart, key=lambda file: (file.stem, file.place))


def _below(file: RawFile, raw: Path) -> str:
    """Where a file lies under `raw`: its path, and a colon before what is in a zip."""
    path = "" if file.path == raw else str(file.path.relative_to(raw))
    return ":".join(part for part in (path, file.member) if part)


def _walk(raw: Path) -> Iterator[RawFile]:
    """Every file on disk and every member of a zip; hidden ones are other programs' notes.

    What is called as a file but is none (a folder, a pipe, a link that leads nowhere) is among them: reading says so.
    """
    if raw.is_file():
        yield from _members(raw)
        return
    seen = set[tuple[int, int]]()
    for here, folders, files in os.walk(raw, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and _is_new(Path(here, name), seen)]
        yield from (RawFile(Path(here, name)) for name in folders if Path(name).suffix)
        for path in (Path(here, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() == ".zip" and path.is_file():
                yield from _members(path)
            else:
                found = path.stat() if path.exists() else path.lstat()
                yield RawFile(path, "", found.st_size, stamp_of(found))


def _refuse(error: OSError) -> None:
    """A folder that cannot be looked into is not passed by in silence."""
    raise error


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder has not been walked yet: a link may lead back to where one came from."""
    found = folder.stat()
    place = found.st_dev, found.st_ino
    new = place not in seen
    seen.add(place)
    return new


def _members(path: Path) -> Iterator[RawFile]:
    try:
        members = _archive(path, path.stat().st_ctime_ns).infolist()
    except (BadZipFile, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: not a readable zip ({error}); get it anew, or move it away") from error
    for info in members:
        if not info.is_dir() and not _is_hidden(info):
            if info.flag_bits & ENCRYPTED:
                raise ValueError(f"{path}: needs a password; unpack it, and give the folder")
            yield RawFile(path, info.filename, info.file_size, f"{info.CRC:08x}")


def _is_hidden(info: ZipInfo) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(info.filename).parts)


def _what_is_there(there: list[RawFile]) -> str:
    suffixes = Counter(PurePosixPath(file.name).suffix or "no suffix" for file in there)
    listing = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(4))
    return f"found {listing}" if listing else "it is empty"
