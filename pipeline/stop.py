"""A clean end on SIGTERM and Ctrl-C: the unit in flight is finished, and the user is told how to go on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SHOW_CURSOR = b"\x1b[?25h"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """The work was asked to end before it was done; `code` is the exit code that shells expect of the signal."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Stop:
    """Whether the work is to end after the unit in flight, and why: a signal came, or a pass failed."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        self._event.set()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks for a clean end; a second one ends the process at once."""
        if self.signal:
            _end_now(number)
        self.signal = number
        self.ask()
        with suppress(OSError):  # nobody may be there to read it
            os.write(2, b"\nfinishing what is in flight; once more to stop at once\n")


def _end_now(number: int) -> None:
    if sys.stdout.isatty():
        os.write(1, SHOW_CURSOR)  # the progress bars hid it
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def clean_stop() -> Iterator[Stop]:
    """A Stop that SIGTERM and Ctrl-C ask; outside the main thread, which alone hears signals, nobody does."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.on_signal) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
