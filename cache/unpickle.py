"""Pickles read as data: a small machine that knows lists, dicts, numbers, text and numpy arrays, and can do no more.

Python's own unpickler imports and calls what a file names. Here the few names that an array's pickle needs are words of
a format: nothing is imported, nothing of the file is called, and numpy gets bytes only with a dtype and a shape that
fit them. Protocols 0 to 5; numpy 1 and 2; what Python 2 wrote too.
"""

from __future__ import annotations

import os
import pickletools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from .pickle_words import WORDS, Unfinished, Word, short, word_of

# What a file may make, in bytes: a file of arrays makes little more than itself.
SPARE = 1 << 29
TIMES_ITS_SIZE = 4
STEP = 80  # what one opcode makes at most, with its place, where it makes no array; NTU RGB+D 120 has 4 million
CALL = 512  # an array without its elements
MOST_HANDED = 8  # more are not asked for
# What a dict goes by: text of any length is compared again and again, and numbers can be chosen so that all collide.
LONGEST_KEY = 1000
MOST_NUMBER_KEYS = 10_000  # in all dicts of a file
MOST_BITS = 1024  # of an integer
TEXT = (str, bytes)
KEYS = (int, float, type(None), np.generic)  # beside text; not tuples: one nested deep enough ends the process

ZIP = b"PK\3\4"  # how one begins


def load_arrays(path: Path) -> Any:
    """What a pickle holds, of lists, tuples, dicts, numbers, text and (read-only) arrays; nothing in it is executed.

    Raises ValueError for one that holds or wants anything else, that makes much more than its size, that is damaged,
    or that is no pickle.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == ZIP:
                raise ValueError("it is a zip; unpack it, and give the file in it")
            file.seek(0)
            return _only_data(_Machine(os.fstat(file.fileno()).st_size).run(file))
    except MemoryError as error:
        raise ValueError(f"{path}: needs more memory than there is, or is damaged") from error
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        lost = isinstance(error, LookupError)  # an empty stack, or a number that the memo has not
        said = "it refers to what is not there" if lost else str(error) or type(error).__name__
        raise ValueError(f"{path}: not a pickle of arrays, or a damaged one: {said}") from error


class _Machine:
    """The stack and the memo of one pickle; a method an opcode, whose argument it gets."""

    def __init__(self, size: int) -> None:
        self._budget = SPARE + TIMES_ITS_SIZE * size  # bytes
        self._number_keys = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        untold: Any = SimpleNamespace(read=file.read, readline=file.readline)  # asked where it is, a file is slow
        for opcode, argument, _ in pickletools.genops(untold):
            self._spend(STEP)
            if opcode.name not in STEPS:
                raise ValueError(f"it wants {opcode.name} {short(argument)}, which is not done")
            STEPS[opcode.name](self, argument)
        return self._stack.pop()

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise ValueError(f"it unfolds to more than {TIMES_ITS_SIZE} times its size and another {SPARE:,} bytes")

    def nothing(self, _: Any) -> None:
        pass

    def push(self, value: Any) -> None:
        if type(value) is str and not value.isascii():
            value.encode()  # half a character is a UnicodeEncodeError, which is a ValueError
        if type(value) is int and value.bit_length() > MOST_BITS:
            raise ValueError(f"an integer of {value.bit_length():,} bits")
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
        keys = items[::2]
        if type(self._stack[-1]) is not dict or not all(map(_is_key, keys)):
            raise ValueError("it sets items of what is no dict, or by what is no key")
        self._number_keys += sum(not isinstance(key, TEXT) for key in keys)
        if self._number_keys > MOST_NUMBER_KEYS:
            raise ValueError(f"more than {MOST_NUMBER_KEYS:,} numbers as keys of dicts")
        self._stack[-1].update(zip(keys, items[1::2], strict=True))

    def put(self, key: int | None) -> None:
        key = len(self._memo) if key is None else key
        self._memo[key] = value = self._stack[-1]
        if isinstance(value, Unfinished):
            value.keys.append(key)

    def get(self, key: int) -> None:
        self._stack.append(self._memo[key])

    def word(self, named: str) -> None:
        self._spend(CALL)
        self._stack.append(word_of(*named.split(" ", 1)))

    def word_of_stack(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._spend(CALL)
        self._stack.append(word_of(module, name))

    def reduce(self, _: Any) -> None:
        arguments, word = self._stack.pop(), self._stack.pop()
        if not isinstance(word, Word) or type(arguments) is not tuple:
            raise ValueError("it calls what is no constructor of arrays")
        self._spend(CALL + _handed(arguments))
        self._stack.append(WORDS[word.name](arguments))

    def build(self, _: Any) -> None:
        state, unfinished = self._stack.pop(), self._stack.pop()
        if not isinstance(unfinished, Unfinished):
            raise ValueError("it sets the state of what has none")
        self._spend(CALL + _handed(state))
        made = unfinished.finish(state)
        self._stack.append(made)
        self._memo |= dict.fromkeys(unfinished.keys, made)


def _handed(values: Any) -> int:
    """Bytes of the text or the numbers that something is made of; they are looked at, if not copied."""
    first = values[:MOST_HANDED] if type(values) is tuple else ()
    return sum(len(value) for value in first if isinstance(value, str | bytes | bytearray))


def _is_key(value: Any) -> bool:
    return len(value) <= LONGEST_KEY if isinstance(value, TEXT) else isinstance(value, KEYS)


def _only_data(value: Any) -> Any:
    """The same value; ValueError where something in it is a word of the format, or was not finished."""
    left, seen = [value], set[int]()
    while left:
        found = left.pop()
        if isinstance(found, Word | Unfinished | np.dtype):
            raise ValueError("it ends with an array that is not finished, or with a name")
        if isinstance(found, list | tuple | dict) and id(found) not in seen:
            seen.add(id(found))
            left.extend(found.values() if isinstance(found, dict) else found)
    return value


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
