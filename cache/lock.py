"""One process at a time: a lock that the system lets go when its holder dies, by kill -9 too."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # a file system without locks: parts are safe without


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds the lock file at `path`; where another process holds it, waits, or raises BlockingIOError naming it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path, wait)
        yield
    finally:
        os.close(handle)


def _take(handle: int, path: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.pread(handle, 200, 0).decode("utf-8", "replace") or "another process"
        raise BlockingIOError(errno.EWOULDBLOCK, f"{holder} is at work here", str(path)) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
