"""Words that messages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def few(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question that asks for the nearest of the known names, with a space behind it; nothing where none is near."""
    near = get_close_matches(name, list(known), 1, cutoff)
    return f"did you mean {near[0]}? " if near else ""
