"""What is let into a cache: numbers that are numbers, fit float32, and differ where the clips differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...cache.table import Column

WIDE = 8  # so many equal values, or so many clips with equal values, are no chance


def narrowed(column: np.ndarray) -> np.ndarray:
    """float64 as float32; a number too large for it becomes infinite, which `failures_of` calls an overflow."""
    if column.dtype != np.float64:
        return column
    with np.errstate(over="ignore"):
        return column.astype(np.float32)


def failures_of(reasons: Sequence[str], columns: Mapping[str, Column]) -> list[str]:
    """Why each row is not to be used: its clip failed, or the encoder gave it no numbers, or all the same ones."""
    found = list(reasons)
    for name, column in columns.items():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            found = [old or _fault(name, row) for old, row in zip(found, column, strict=True)]
    return found


def _fault(name: str, row: np.ndarray) -> str:
    if np.isnan(row).any():
        return f"not finite: NaN in {name}"
    if np.isinf(row).any():
        return f"overflow: {name} holds a number too large for {row.dtype}"
    if row.size >= WIDE and row.min() == row.max():
        return f"constant: {name} is {row.flat[0]:g} everywhere"
    return ""


def refuse_blind(model: str, columns: Mapping[str, Column], failures: Sequence[str]) -> None:
    """RuntimeError where different clips got the same feature: the encoder did not look at them."""
    good = [row for row, reason in enumerate(failures) if not reason]
    for name, column in columns.items():
        if not isinstance(column, np.ndarray) or column.dtype.kind != "f" or column[0].size < WIDE or len(good) < WIDE:
            continue
        if (column[good] == column[good[0]]).all():
            raise RuntimeError(
                f"{model}: {name} is the same for {len(good)} different clips, so it does not see the images; "
                "look at its preprocessing and its prompt"
            )


def blanked(columns: Mapping[str, Column], failures: Sequence[str]) -> dict[str, Column]:
    """Numbers of failed rows as zeros, so that nobody takes a blank picture's features for a clip's."""
    failed = np.array([bool(reason) for reason in failures])

    def blank(column: np.ndarray) -> np.ndarray:
        return np.where(failed.reshape(-1, *[1] * (column.ndim - 1)), np.zeros((), column.dtype), column)

    return {name: blank(column) if isinstance(column, np.ndarray) else column for name, column in columns.items()}
