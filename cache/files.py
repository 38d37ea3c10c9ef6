"""Files written whole or not at all: a reader sees the new one, or the old one."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_FULL = 1 << 20  # bytes; less than this free, and a writer that failed without saying why had no space


def write_atomic(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a file aside, then fsync and rename it: a reader sees the whole file or the old one.

    Raises what `fill` raises, but one clear OSError where the disk is full.
    """
    aside = path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        fill(aside)
        _fsync(aside)
        aside.replace(path)
        _fsync(path.parent)
    except Exception as error:
        if _for_want_of_space(error, path.parent):
            message = "the disk is full; free some space and run the same command again"
            raise OSError(errno.ENOSPC, message, str(path)) from error
        raise
    finally:
        aside.unlink(missing_ok=True)


def _for_want_of_space(error: Exception, folder: Path) -> bool:
    number = getattr(error, "errno", None)  # torch and safetensors raise errors without one
    return number in FULL or (number is None and shutil.disk_usage(folder).free < NEARLY_FULL)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a small file's content, atomically."""
    write_atomic(path, lambda aside: aside.write_bytes(content))


def write_csv(path: Path, header: Iterable[str], lines: Iterable[Iterable[Any]]) -> None:
    """Write a table as CSV in UTF-8, atomically; of a name that is none in UTF-8 its bytes are written out."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(lines)
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
