"""Decoding in processes of its own: a video that hangs or crashes native code costs its clip and nothing else.

Run as a module this file is the decoder. Requests come as JSON lines on stdin. Answers leave on stdout as messages, a
length and that many bytes of JSON; an empty message is a sign of life, and behind the answer follow the frames' bytes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue
from typing import IO, Any

import cv2
import numpy as np

from .video import Alive, Clip, read_clip

DEADLINE = 120.0  # seconds without a frame or another sign of life
LIMIT = 3600.0  # seconds for one clip: a stream without an end is alive all the time
BEAT = 0.1  # seconds between two signs of life
GRACE = 5.0  # seconds for a killed process: one that waits for a dead disk does not go
ORPHANED = 1.0  # seconds between two looks whether the parent lives
MEANT_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# -P: a folder where somebody keeps a cv2.py of his own is none to import from
COMMAND = [sys.executable, "-P", "-m", "mmcl.pipeline.videos.decoder"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # numpy starts one a core as it is imported
LENGTH = struct.Struct("<I")

Process = subprocess.Popen[bytes]


class Decoders:
    """At most `count` decoder processes for any number of threads; each is started when it is first needed.

    `deadline` is how many seconds a decoder may be silent; one that decodes on never is, however long the video.
    Leaving the context, or `close`, ends them all, those that are stuck too.
    """

    def __init__(self, count: int, deadline: float = DEADLINE) -> None:
        if count < 1:
            raise ValueError(f"{count} decoders: wanted at least 1")
        self._closed = threading.Event()
        self._all = [_Decoder(deadline, self._closed) for _ in range(count)]
        self._idle = LifoQueue[_Decoder]()
        for decoder in self._all:
            self._idle.put(decoder)

    def read(self, path: Path, counts: Sequence[int]) -> list[Clip]:
        """A clip for each count, as `read_clip` gives them; waits while all decoders are busy.

        Raises ValueError for what can't be decoded or crashes its decoder, TimeoutError past the deadline, OSError
        for a file that can't be opened; RuntimeError where decoders are closed or can't be started.
        """
        decoder = self._idle.get()
        try:
            return decoder.read(path, counts)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End the decoders; a `read` that goes on in another thread ends with RuntimeError."""
        if self._closed.is_set():
            return
        self._closed.set()
        for decoder in self._all:
            decoder.kill()
        for decoder in [self._idle.get() for _ in self._all]:  # each comes back from the thread that has it
            decoder.end()
            self._idle.put(decoder)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Decoder:
    """One decoder process, for one thread at a time; `kill` is for any thread."""

    def __init__(self, deadline: float, closed: threading.Event) -> None:
        self._deadline = deadline
        self._closed = closed
        self._process: Process | None = None

    def read(self, path: Path, counts: Sequence[int]) -> list[Clip]:
        process = self._running()
        try:
            answer, frames = self._ask(process, path, counts)
        except (EOFError, BrokenPipeError):
            died = self._death(process)
            self._refuse_closed()  # it was killed by `close`
            raise ValueError(f"crashed: the decoder {died}") from None
        except BaseException:  # half an answer may lie in the pipe
            self.end()
            raise
        if "os_error" in answer:
            raise OSError(*answer["os_error"])
        if "error" in answer:
            raise ValueError(answer["error"])
        facts = zip(frames, answer["clips"], strict=True)
        return [Clip(pixels, np.array(clip["index"]), clip["total"], clip["claimed"]) for pixels, clip in facts]

    def kill(self) -> None:
        if process := self._process:
            process.kill()

    def end(self) -> None:
        """Kill the process and let go of it and its pipes."""
        process, self._process = self._process, None
        if not process:
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        for pipe in _pipes(process):
            pipe.close()

    def _running(self) -> Process:
        if self._process and self._process.poll() is None:
            return self._process
        self.end()
        self._refuse_closed()
        try:
            process = self._process = _start()
            self._refuse_closed()  # `close` may not have seen it
            self._message(process, DEADLINE)
        except (EOFError, OSError) as error:
            how = self._death(process) if (process := self._process) else error
            self._refuse_closed()
            raise RuntimeError(f"no decoder can be started: {' '.join(COMMAND)}: {how}") from error
        return process

    def _refuse_closed(self) -> None:
        if self._closed.is_set():
            raise RuntimeError("the decoders are closed")

    def _ask(self, process: Process, path: Path, counts: Sequence[int]) -> tuple[dict[str, Any], list[np.ndarray]]:
        requests, _ = _pipes(process)
        requests.write(json.dumps({"path": str(path), "counts": list(counts)}).encode() + b"\n")
        until = time.monotonic() + LIMIT
        while not (message := self._message(process, self._deadline)):
            if time.monotonic() > until:
                raise TimeoutError(f"timeout: still decoding after {LIMIT:g} s")
        answer = json.loads(message)
        frames = [np.empty(clip["shape"], np.uint8) for clip in answer.get("clips", ())]
        for pixels in frames:
            self._receive(process, pixels.data.cast("B"), self._deadline)
        return answer, frames

    def _message(self, process: Process, patience: float) -> bytes:
        length = bytearray(LENGTH.size)
        self._receive(process, memoryview(length), patience)
        message = bytearray(*LENGTH.unpack(length))
        self._receive(process, memoryview(message), patience)
        return bytes(message)

    def _receive(self, process: Process, into: memoryview, patience: float) -> None:
        """Fill `into`; EOFError where the decoder is gone, TimeoutError where it is silent."""
        _, answers = _pipes(process)
        ready = select.poll()
        ready.register(answers, select.POLLIN)
        while into:
            self._wait(ready, patience)
            got = os.readv(answers.fileno(), [into])
            if not got:
                raise EOFError
            into = into[got:]

    def _wait(self, ready: select.poll, patience: float) -> None:
        """Until the decoder says something. Time is counted in short waits: a process stopped by Ctrl-Z counts none."""
        short, silent = min(1.0, patience), 0.0
        while not ready.poll(1000 * short):
            silent += short
            self._refuse_closed()
            if silent >= patience:
                raise TimeoutError(f"timeout: no sign of life for {patience:g} s")

    def _death(self, process: Process) -> str:
        self.end()
        code = process.returncode
        if code is None or code >= 0:
            return f"left with exit code {code}"
        return f"died of signal {-code} ({signal.strsignal(-code)})"


def _start() -> Process:
    """A decoder that leaves Ctrl-C and the scheduler's signals to its parent, from its first moment on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, MEANT_FOR_THE_PARENT)  # a new process inherits it
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, **ONE_THREAD}
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pipes(process: Process) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin  # noqa: S101 - both were asked for
    assert process.stdout  # noqa: S101
    return process.stdin, process.stdout


# -- the decoder's side


def main() -> None:
    """Answer requests until there are no more, or nobody to answer."""
    answers = _own_stdout()
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    with suppress(BrokenPipeError):
        _send(answers, b"")
        for request in sys.stdin.buffer:
            _answer(answers, **json.loads(request))


def _own_stdout() -> int:
    """A descriptor of stdout that nobody else knows: what native libraries print goes nowhere."""
    answers, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    sys.stderr = os.fdopen(os.dup(2), "w")  # a mistake of ours is still seen
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _leave_with(parent: int) -> None:
    """Leave once the parent is gone, though the main thread may be stuck in native code.

    A busy decoder doesn't see the end of its stdin, and PR_SET_PDEATHSIG would come with the end of the thread that
    started it.
    """
    while os.getppid() == parent:
        time.sleep(ORPHANED)
    os._exit(1)


def _answer(answers: int, path: str, counts: Sequence[int]) -> None:
    try:
        clips = read_clip(Path(path), counts, _beating(answers))
    except OSError as error:
        numbered = error.errno is not None
        _say(answers, {"os_error": [error.errno, error.strerror, error.filename] if numbered else [str(error)]})
    except ValueError as error:
        _say(answers, {"error": str(error)})
    except cv2.error as error:
        _say(answers, {"error": f"undecodable: {' '.join(str(error).split())}"})
    except MemoryError:
        _say(answers, {"error": "undecodable: not enough memory for its frames"})
    else:
        facts = [
            {"shape": clip.frames.shape, "index": clip.index.tolist(), "total": clip.total, "claimed": clip.claimed}
            for clip in clips
        ]
        _say(answers, {"clips": facts})
        for clip in clips:
            _send_all(answers, clip.frames.data.cast("B"))


def _beating(answers: int) -> Alive:
    """To be called at every frame; tells the parent now and then. A thread for this would beat for a stuck decoder."""
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last >= BEAT:
            last = time.monotonic()
            _send(answers, b"")

    return alive


def _say(answers: int, answer: dict[str, Any]) -> None:
    _send(answers, json.dumps(answer, default=str).encode())  # a file's name may be a Path


def _send(answers: int, message: bytes) -> None:
    _send_all(answers, memoryview(LENGTH.pack(len(message)) + message))


def _send_all(answers: int, content: memoryview) -> None:
    while content:
        content = content[os.write(answers, content) :]


if __name__ == "__main__":
    main()
