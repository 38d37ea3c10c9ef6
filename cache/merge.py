"""Parts to one table, by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .index import Index, Source, open_index
from .lock import locked
from .store import Made, Rows, attributes, is_merged, open_cache
from .table import concatenate, damaged_rows


def merge(folder: Path) -> Rows:
    """One table out of all parts; the parts go once it is safely there. A second process waits for the first."""
    if is_merged(folder):
        return open_cache(folder)
    with locked(folder / "parts" / "merge.lock", wait=True):
        index = open_index(folder)
        parts = [source for source in index.sources if source.path.name != "cache.h5"]
        kept = _kept_rows(index)
        for aside in folder.glob("*.tmp"):  # of processes that were killed; who writes here holds this lock
            aside.unlink()
        if any(source.path in kept for source in parts):  # a kill may have left parts that were merged already
            _refuse_damaged([source for source in parts if source.path in kept])
            _write(folder, index, kept)
        for part in parts:
            part.path.unlink(missing_ok=True)
    return open_cache(folder)


def _write(folder: Path, index: Index, kept: dict[Path, np.ndarray]) -> None:
    sources = [source for source in index.sources if source.path in kept]
    cost = Index(folder, tuple(sources))
    made = Made(index.batch, index.fit, index.next_generation - 1, parameters=cost.parameters, seconds=cost.seconds)
    said = attributes(folder, made, _libraries(sources))
    concatenate(folder / "cache.h5", list(kept), list(kept.values()), said)


def _refuse_damaged(parts: Sequence[Source]) -> None:
    """OSError where a part is no longer what was written: it goes into no table, and its unit can be made again."""
    for part in parts:
        if rows := damaged_rows(part.path):
            raise OSError(
                f"{part.path}: {len(rows)} of its {len(part.names)} rows are no longer what was written; delete this "
                "file, and run the same `mmcl extract-features` again: it makes these rows alone"
            )


def _kept_rows(index: Index) -> dict[Path, np.ndarray]:
    """The rows of each file that count, in the order of the files; files without any are left out."""
    rows: dict[Path, list[int]] = {source.path: [] for source in index.sources}
    for place in index.places.values():
        rows[place.source.path].append(place.row)
    return {path: np.sort(np.array(found)) for path, found in rows.items() if found}


def _libraries(sources: Sequence[Source]) -> str:
    found = {versions for source in sources for versions in source.libraries}
    return found.pop() if len(found) == 1 else json.dumps({"mixed": sorted(found)})
