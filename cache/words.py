"""Words that messages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from rich.markup import escape

SHORT_OF_MEMORY = (  # how libraries say that there is too little, on the device or beside it
    *("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    *("can't allocate memory", "not enough memory", "std::bad_alloc", "Cannot allocate memory"),
    "could not create a primitive",  # oneDNN, where there is no memory for the code that it generates
)


def few(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question that asks for the nearest of the known names, with a space behind it; nothing where none is near."""
    near = get_close_matches(name, list(known), 1, cutoff)
    return f"did you mean {near[0]}? " if near else ""


def printable(text: str) -> str:
    """The text without control characters: a file's name or an LLM's answer can't steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell(text: str) -> str:
    """The text as a table shows it: printable, and its brackets no markup."""
    return escape(printable(text))
