"""samples.csv as people save it: a line a clip. A line that can't be meant keeps its reason, and the rest goes on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import PurePosixPath, PureWindowsPath
from re import ASCII, IGNORECASE, fullmatch

from ....cache.skeletons import OUT, TEST, TRAIN

NEEDED = ("label", "skeleton")
SIDES = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST, "": OUT}  # words of the column split
SEP = r'"?sep=([,;|\t])"?[,;|\t]*'  # Excel's first line, which names the mark between cells


@dataclass(frozen=True)
class Entry:
    """A clip as the table or a folder tells it; `skeleton` is relative to the table, `fault` why it is left out.

    `cells` are all of the line's, by column.
    """

    where: str  # "line 7", for messages
    name: str
    label: str
    skeleton: str
    cells: Mapping[str, str]
    fault: str = ""


def read_samples(content: bytes, place: str) -> list[Entry]:
    """The lines of a table, with its columns in small letters.

    Raises ValueError where it is no CSV, lacks a needed column, has one twice, or has no line.
    """
    lines = _lines(content, place)
    if not lines:
        raise ValueError(f"{place}: an empty file; wanted the columns name, {', '.join(NEEDED)}")
    columns = [cell.lower() for cell in lines.pop(min(lines))]
    _check_columns([column for column in columns if column], place)
    if not lines:
        raise ValueError(f"{place}: a heading and no line")
    return left_out_where_twice([_entry(number, columns, cells) for number, cells in lines.items()])


def _lines(content: bytes, place: str) -> dict[int, list[str]]:
    """The cells of each line that has any, by the line's number from 1."""
    try:
        text = content.decode("utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        named = fullmatch(SEP, first, IGNORECASE)
        delimiter = named[1] if named else _delimiter(first)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        found = {reader.line_num: [cell.strip(" \t\u00a0") for cell in cells] for cells in reader}  # noqa: B035 - it counts up
    except (UnicodeDecodeError, csv.Error) as error:
        advice = 'save it as one, in Excel as "CSV UTF-8"'
        raise ValueError(f"{place}: not a CSV file in UTF-8 ({error}); {advice}") from error
    lines = {number: cells for number, cells in found.items() if any(cells)}
    if named:
        del lines[min(lines)]
    return lines


def _delimiter(heading: str) -> str:
    """The comma, semicolon or tab that there is most of in the heading."""
    return max((",", ";", "\t"), key=heading.count)


def _check_columns(columns: Sequence[str], place: str) -> None:
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ValueError(f"{place}: column {', '.join(twice)} twice; found {', '.join(columns)}")
    for column in NEEDED:
        if column not in columns:
            near = get_close_matches(column, columns, 1)
            hint = f" (rename {near[0]}?)" if near else ""
            raise ValueError(f"{place}: column {column} missing{hint}; found {', '.join(columns) or 'nothing'}")


def _entry(number: int, columns: Sequence[str], cells: Sequence[str]) -> Entry:
    known = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
    by_column = {column: known.get(column, "") for column in columns if column}
    skeleton = by_column["skeleton"].replace("\\", "/")
    name = by_column.get("name") or PurePosixPath(skeleton).stem
    fault = _fault(by_column, skeleton)
    if any("\n" in cell for cell in cells):
        fault = "a cell goes on over the line's end; a quotation mark is not closed"
    elif any(cells[len(columns) :]):
        fault = f"{_counted(cells, columns)}; a cell that holds the mark between cells needs quotes"
    elif fault and len(cells) < len(columns):
        fault = f"{fault}: {_counted(cells, columns)}"
    return Entry(f"line {number}", name, by_column["label"], skeleton, by_column, fault)


def _counted(cells: Sequence[str], columns: Sequence[str]) -> str:
    return f"{len(cells)} cell{'s' if len(cells) > 1 else ''}, {len(columns)} columns"


def _fault(cells: Mapping[str, str], skeleton: str) -> str:
    """What is wrong with a line, or nothing."""
    if empty := [column for column in NEEDED if not cells[column]]:
        return f"no {', '.join(empty)}"
    if (split := cells.get("split", "")).lower() not in SIDES:
        return f"split {split}; allowed are train, test or nothing (training holds clips out by --validation)"
    for column in ("width", "height"):
        if (cell := cells.get(column, "")) and not fullmatch(r"0*[1-9]\d{0,5}(\.0+)?", cell, ASCII):
            return f"{column} {cell}; wanted the video's in pixels"
    if PureWindowsPath(skeleton).is_absolute() or skeleton.startswith("/") or ".." in PurePosixPath(skeleton).parts:
        return f"skeleton {skeleton} lies outside the folder"
    return ""


def left_out_where_twice(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with a fault for each that has an earlier one's name or skeleton file."""
    seen: dict[tuple[str, str], str] = {}
    result = []
    for entry in entries:
        fault = entry.fault
        for what, value in (("name", entry.name), ("skeleton", str(PurePosixPath(entry.skeleton)))):
            if not fault and (what, value) in seen:
                fault = f"the same {what} {value} as {seen[what, value]}"
        if not fault:
            seen[("name", entry.name)] = seen[("skeleton", str(PurePosixPath(entry.skeleton)))] = entry.where
        result.append(replace(entry, fault=fault))
    return result
