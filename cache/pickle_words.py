"""The few words that a pickle of arrays needs, and what each makes: nothing is imported, nothing of the file is called.

numpy gets bytes only with a dtype and a shape that fit them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

MOST_AXES = 32
MOST_OF_NOTHING = 1 << 20  # length of an axis of an array without elements
LAST_CHARACTER = 0x10FFFF
SHOWN = 80  # characters of a stranger's text in a message
PLAIN = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,6}")  # bool, integers, floats, text of a fixed length


@dataclass(frozen=True)
class Word:
    """A name that the file gives, one of WORDS."""

    name: str


@dataclass
class Unfinished:
    """What is an array or a dtype when its state comes; `keys` are the memo's for it until then."""

    finish: Callable[[Any], Any]
    keys: list[int] = field(default_factory=list)


def word_of(module: Any, name: Any) -> Word:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("it wants what has no name")
    word = f"{module.replace('numpy.core.', 'numpy._core.')} {name}"
    if word not in WORDS:
        raise ValueError(f"it wants {short(module)}.{short(name)}, which is not run")
    return Word(word)


def _new_array(arguments: tuple[Any, ...]) -> Unfinished:
    match arguments:
        case (Word("numpy ndarray"), (0,), b"b" | "b"):
            return Unfinished(_array_of_state)
    raise ValueError("an array is begun in an unknown way")


def _array_of_state(state: Any) -> np.ndarray:
    match state:
        case (1, tuple() as shape, np.dtype() as dtype, bool() | int() as by_columns, bytes() | str() as raw):
            return _array(raw, dtype, shape, "F" if by_columns else "C")
    raise ValueError("an array is filled in an unknown way")


def _array_of_buffer(arguments: tuple[Any, ...]) -> np.ndarray:
    match arguments:
        case (bytes() | bytearray() as raw, np.dtype() as dtype, tuple() as shape, "C" | "F" as order):
            return _array(raw, dtype, shape, order)
    raise ValueError("an array is filled in an unknown way")


def _scalar(arguments: tuple[Any, ...]) -> Any:
    match arguments:
        case (np.dtype() as dtype, bytes() | str() as raw):
            return _array(raw, dtype, (), "C")[()]
    raise ValueError("a number is made in an unknown way")


def _new_dtype(arguments: tuple[Any, ...]) -> Unfinished:
    match arguments:
        case (str() as code, 0 | 1, 0 | 1):
            return Unfinished(partial(_dtype_of_state, code))
    raise ValueError("a dtype is made in an unknown way")


def _dtype_of_state(code: str, state: Any) -> np.dtype:
    if not PLAIN.fullmatch(code):
        raise ValueError(f"an array of dtype {short(code)}; wanted plain numbers or text")
    match state:
        case (3, "<" | ">" | "|" as order, None, None, None, int() as size, int(), int()):
            dtype = np.dtype(order + code)
            if size in (-1, dtype.itemsize):
                return dtype
    raise ValueError(f"a dtype {code} with fields, or of an unknown form")


def _encoded(arguments: tuple[Any, ...]) -> bytes:
    """How protocols 0 to 2 write bytes."""
    match arguments:
        case (str() as text, "latin1"):
            return text.encode("latin1")
    raise ValueError("bytes are made in an unknown way")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    match arguments:
        case ():
            return b""
    raise ValueError("bytes are made in an unknown way")


def _no_call(arguments: tuple[Any, ...]) -> Any:
    raise ValueError("an array is made in an unknown way")


def short(text: Any) -> str:
    return text if len(text := str(text)) <= SHOWN else f"{text[:SHOWN]}..."


def _array(raw: bytes | bytearray | str, dtype: np.dtype, shape: tuple[Any, ...], order: Any) -> np.ndarray:
    """The array that lies in these bytes; ValueError where dtype, shape and bytes do not agree."""
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 had no other bytes
    longest = max(len(raw), MOST_OF_NOTHING)
    if len(shape) > MOST_AXES or not all(type(axis) is int and 0 <= axis <= longest for axis in shape):
        raise ValueError("an array of an impossible shape")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array {list(shape)} of {dtype} in {len(raw):,} bytes")
    if dtype.kind == "U" and (np.frombuffer(raw, dtype.byteorder + "u4") > LAST_CHARACTER).any():
        raise ValueError("text of what are no characters")
    return np.ndarray(shape, dtype, raw, order=order)


# Spelt out, so that it can be seen that these are all.
WORDS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "numpy ndarray": _no_call,
    "numpy dtype": _new_dtype,
    "numpy._core.multiarray _reconstruct": _new_array,
    "numpy._core.multiarray scalar": _scalar,
    "numpy._core.numeric _frombuffer": _array_of_buffer,
    "_codecs encode": _encoded,
    "__builtin__ bytes": _no_bytes,
}
