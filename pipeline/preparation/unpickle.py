"""Pickles read as data: a small machine that knows lists, dicts, numbers, text and numpy arrays, and can do no more.

Python's own unpickler imports and calls what a file names. Here the few names that an array's pickle needs are words of
a format: nothing is imported, nothing of the file is called, and numpy gets bytes only with a dtype and a shape that
fit them. Protocols 0 to 5; numpy 1 and 2; what Python 2 wrote too.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MOST_STEPS = 50_000_000  # opcodes: NTU RGB+D 120 has about 4 million; each may make an object 60 times its size
MOST_AXES = 32
MOST_OF_NOTHING = 1 << 20  # length of an axis of an array without elements
LAST_CHARACTER = 0x10FFFF
SHOWN = 80  # characters of a stranger's text in a message
PLAIN = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,6}")  # bool, integers, floats, text of a fixed length
KEYS = (str, bytes, int, float, type(None), np.generic)  # not tuples: one nested deep enough ends the process


def load_arrays(path: Path) -> Any:
    """What a pickle holds, of lists, tuples, dicts, numbers, text and (read-only) arrays; nothing in it is executed.

    Raises ValueError for one that holds or wants anything else, that is damaged, or that is no pickle.
    """
    try:
        with path.open("rb") as file:
            return _Machine().run(file)
    except MemoryError as error:
        raise ValueError(f"{path}: needs more memory than there is, or is damaged") from error
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"{path}: not a pickle of arrays, or a damaged one: {said}") from error


@dataclass(frozen=True)
class _Word:
    """A name that the file gives, one of WORDS."""

    name: str


@dataclass
class _Unfinished:
    """What is an array or a dtype when its state comes; `keys` are the memo's for it until then."""

    finish: Callable[[Any], Any]
    keys: list[int] = field(default_factory=list)


class _Machine:
    """The stack and the memo of one pickle; a method an opcode, whose argument it gets."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if step > MOST_STEPS:
                raise ValueError(f"more than {MOST_STEPS:,} steps")
            if opcode.name not in STEPS:
                raise ValueError(f"it wants {opcode.name} {_short(argument)}, which is not done")
            STEPS[opcode.name](self, argument)
        return self._stack.pop()

    def nothing(self, _: Any) -> None:
        pass

    def push(self, value: Any) -> None:
        if type(value) is str and not value.isascii():
            value.encode()  # half a character is a UnicodeEncodeError, which is a ValueError
        self._stack.append(value)

    def mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def tuple_of(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def short_tuple(self, _: Any, size: int) -> None:
        self._stack.append(tuple([self._stack.pop() for _ in range(size)][::-1]))

    def list_of(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def dict_of(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set(items)

    def append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise ValueError("it appends to what is no list")
        self._stack[-1].extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self._since_mark())

    def _set(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not dict or not all(isinstance(key, KEYS) for key in items[::2]):
            raise ValueError("it sets items of what is no dict, or by what is no key")
        self._stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def put(self, key: int | None) -> None:
        key = len(self._memo) if key is None else key
        self._memo[key] = value = self._stack[-1]
        if isinstance(value, _Unfinished):
            value.keys.append(key)

    def get(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def word(self, named: str) -> None:
        self._stack.append(_word(*named.split(" ", 1)))

    def word_of_stack(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_word(module, name))

    def reduce(self, _: Any) -> None:
        arguments, word = self._stack.pop(), self._stack.pop()
        if not isinstance(word, _Word) or type(arguments) is not tuple:
            raise ValueError("it calls what is no constructor of arrays")
        self._stack.append(WORDS[word.name](arguments))

    def build(self, _: Any) -> None:
        state, unfinished = self._stack.pop(), self._stack.pop()
        if not isinstance(unfinished, _Unfinished):
            raise ValueError("it sets the state of what has none")
        made = unfinished.finish(state)
        self._stack.append(made)
        self._memo |= dict.fromkeys(unfinished.keys, made)


def _word(module: Any, name: Any) -> _Word:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("it wants what has no name")
    word = f"{module.replace('numpy.core.', 'numpy._core.')} {name}"
    if word not in WORDS:
        raise ValueError(f"it wants {_short(module)}.{_short(name)}, which is not run")
    return _Word(word)


def _new_array(arguments: tuple[Any, ...]) -> _Unfinished:
    match arguments:
        case (_Word("numpy ndarray"), (0,), b"b" | "b"):
            return _Unfinished(_array_of_state)
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


def _new_dtype(arguments: tuple[Any, ...]) -> _Unfinished:
    match arguments:
        case (str() as code, 0 | 1, 0 | 1):
            return _Unfinished(partial(_dtype_of_state, code))
    raise ValueError("a dtype is made in an unknown way")


def _dtype_of_state(code: str, state: Any) -> np.dtype:
    if not PLAIN.fullmatch(code):
        raise ValueError(f"an array of dtype {_short(code)}; wanted plain numbers or text")
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


def _short(text: Any) -> str:
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
Step = Callable[[_Machine, Any], None]


def _new(make: Callable[[], Any]) -> Step:
    return lambda machine, _: machine.push(make())


_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
STEPS: dict[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Machine.nothing),
    **dict.fromkeys(_VALUES, _Machine.push),
    "NONE": _new(lambda: None),
    "NEWTRUE": _new(lambda: True),
    "NEWFALSE": _new(lambda: False),
    "EMPTY_TUPLE": _new(tuple),
    "EMPTY_LIST": _new(list),
    "EMPTY_DICT": _new(dict),
    **{f"TUPLE{size}": partial(_Machine.short_tuple, size=size) for size in (1, 2, 3)},
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_of,
    "LIST": _Machine.list_of,
    "DICT": _Machine.dict_of,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": _Machine.word,
    "STACK_GLOBAL": _Machine.word_of_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
