"""Where one's own data lies: beside a table on disk, in a zip with its table, or in folders named after classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...preparation.raw import RawFile, find_raw, stamp_of
from .files import READERS
from .folders import read_folders
from .table import Entry, read_samples

TABLE = "samples.csv"
EXPECTED = f"{TABLE} (columns name, label, skeleton), and no folder a class with {', '.join(READERS)}"


@dataclass(frozen=True)
class Source:
    """The clips, and the table's file, from where their paths count; `members` are all files where it is no folder.

    `table` is None where folders name the classes.
    """

    place: str
    entries: list[Entry]
    table: RawFile | None
    members: Mapping[str, RawFile] | None
    warnings: tuple[str, ...] = ()

    def find(self, skeleton: str) -> RawFile:
        """The file of a path; ValueError with what is there instead."""
        if self.members is not None:
            return _among(self.members, str(PurePosixPath(skeleton)))
        path = self.table.path.parent / skeleton if self.table else Path(skeleton)
        try:
            if path.is_file():
                return _on_disk(path)
            raise ValueError(_instead(path, skeleton))
        except OSError as error:
            raise ValueError(f"{skeleton}: {error.strerror}") from error


def open_source(raw: Path) -> Source:
    """What lies at `raw`: a table, or a folder or zip with one, or with a folder a class.

    Raises FileNotFoundError or ValueError with what was there instead.
    """
    if raw.is_file() and raw.suffix.lower() == ".csv":
        return _with_table(_on_disk(raw), [])
    if (raw / TABLE).is_file():
        return _with_table(_on_disk(raw / TABLE), [])
    there = find_raw(raw, "*", EXPECTED)
    tables = [file for file in there if file.name.lower() == TABLE]
    if tables:
        return _with_table(_highest(tables, raw), there)
    return _without_table(raw, there)


def _among(members: Mapping[str, RawFile], skeleton: str) -> RawFile:
    if skeleton in members:
        return members[skeleton]
    if any(member.startswith(f"{skeleton}/") for member in members):
        raise ValueError(f"{skeleton} is a folder")
    raise ValueError(f"no such file, {skeleton}")


def _instead(path: Path, skeleton: str) -> str:
    """What lies where no file does."""
    if path.is_dir():
        return f"{skeleton} is a folder"
    if path.exists():
        return f"{skeleton} is a device or a pipe, wanted a file"
    return f"{skeleton} is a link that leads nowhere" if path.is_symlink() else f"no such file, {skeleton}"


def _on_disk(path: Path) -> RawFile:
    found = path.stat()
    return RawFile(path, "", found.st_size, stamp_of(found))


def _highest(tables: list[RawFile], raw: Path) -> RawFile:
    """The table that lies least deep."""
    tables = sorted(tables, key=lambda file: (len(_relative(file, raw).parts), file.place))
    first, *others = (_relative(file, raw) for file in tables)
    if others and len(others[0].parts) == len(first.parts):
        raise ValueError(f"{raw}: several tables, {first} and {others[0]}; give the folder of one")
    return tables[0]


def _with_table(table: RawFile, there: list[RawFile]) -> Source:
    entries = read_samples(_content(table), table.place)
    if not table.member:
        return Source(table.place, entries, table, None)
    folder = PurePosixPath(table.member).parent
    inside = [file for file in there if file.path == table.path and PurePosixPath(file.member).is_relative_to(folder)]
    members = {str(PurePosixPath(file.member).relative_to(folder)): file for file in inside}
    return Source(table.place, entries, table, members)


def _content(table: RawFile) -> bytes:
    try:
        return table.read()
    except ValueError as error:
        raise ValueError(f"{table.place}: {error}") from error


def _without_table(raw: Path, there: list[RawFile]) -> Source:
    members: dict[str, RawFile] = {}
    paths = [(str(_relative(file, raw)), file) for file in there]
    skeletons = sorted(path for path, file in paths if PurePosixPath(file.name).suffix.lower() in READERS)
    if not skeletons:
        suffixes = ", ".join(sorted({PurePosixPath(file.name).suffix or "no suffix" for file in there})[:4])
        raise ValueError(f"{raw}: holds no {EXPECTED}; found {suffixes}")
    for path, file in paths:
        members.setdefault(path, file)
    entries, said = read_folders(skeletons, str(raw))
    return Source(str(raw), entries, None, members, (said,) if said else ())


def _relative(file: RawFile, raw: Path) -> PurePosixPath:
    """A file's place under `raw`; a zip counts as a folder of its name."""
    if file.path == raw:
        return PurePosixPath(file.member)
    path = PurePosixPath(file.path.relative_to(raw))
    return path.with_suffix("") / file.member if file.member else path
