"""What a feature cache cost: the network that made it, the device's time, and its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .table import read_table


class CacheCost(NamedTuple):
    """Bytes of the used columns of one clip, bytes of the file, its rows, and what making it took.

    `parameters` and `seconds` of the device are None where the cache does not say: it is older, or another's.
    """

    clip_bytes: int
    file_bytes: int
    rows: int
    parameters: int | None = None
    seconds: float | None = None


def cost_of(folder: Path, columns: Sequence[str]) -> CacheCost:
    """The cost of a finished cache of which `columns` are used; OSError where it cannot be read."""
    path = folder / "cache.h5"
    there, said = read_table(path, only=("parameters", "device_ms"))
    used = [column for name in columns if isinstance(column := there.get(name), np.ndarray)]
    parameters, spent = (said.get(name) for name in ("parameters", "device_ms"))
    return CacheCost(
        clip_bytes=sum(column.dtype.itemsize * int(np.prod(column.shape[1:])) for column in used),
        file_bytes=path.stat().st_size,
        rows=len(next(iter(there.values()))),
        parameters=parameters if isinstance(parameters, int) else None,
        seconds=spent / 1000 if isinstance(spent, int) else None,
    )
