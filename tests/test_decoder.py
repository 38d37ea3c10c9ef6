"""A video that hangs or crashes its decoder costs its clip alone, and no decoder outlives the one who started it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcl.pipeline.videos import decoder
from mmcl.pipeline.videos.decoder import Decoders
from mmcl.pipeline.videos.video import Clip, read_clip

CLIPS = Path(__file__).parent / "clips"
GOOD = CLIPS / "h264.mp4"
COUNTS = (5, 16)


def children(parent: int | str = "self") -> set[int]:
    """The processes that a process started and that are not gone, dead ones that nobody waited for among them."""
    found = set[int]()
    for file in Path(f"/proc/{parent}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= {int(pid) for pid in file.read_text().split()}
    return {pid for pid in found if not is_pythons_own(pid)}


def is_pythons_own(process: int) -> bool:
    """Whether it is multiprocessing's tracker, which stays as long as the test session."""
    with suppress(FileNotFoundError):
        return b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def soon(true: Callable[[], object]) -> bool:
    for _ in range(600):
        if true():
            return True
        time.sleep(0.05)
    return False


def is_good(clips: list[Clip]) -> bool:
    return [clip.index.tolist() for clip in clips] == [clip.index.tolist() for clip in read_clip(GOOD, COUNTS)]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.fixture
def stuck(tmp_path: Path) -> Path:
    """A video that no native library ever comes back from: a pipe into which nobody writes."""
    os.mkfifo(tmp_path / "stuck.mp4")
    return tmp_path / "stuck.mp4"


@contextmanager
def once_stuck(pipe: Path, act: Callable[[], object] = lambda: None) -> Iterator[None]:
    """`act`, once a decoder hangs in reading the pipe; until the end nothing is written and nothing closed."""

    def watch() -> None:
        opened = list[int]()
        while not opened and not over.wait(0.02):
            with suppress(OSError):  # nobody reads it yet
                opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        act()
        over.wait()
        for descriptor in opened:
            os.close(descriptor)

    over, watching = threading.Event(), threading.Thread(target=watch)
    watching.start()
    yield
    over.set()
    watching.join()


@pytest.fixture
def one() -> Iterator[Decoders]:
    with Decoders(1) as decoders:
        yield decoders


# -- what it gives


@pytest.mark.parametrize("name", ["h264.mp4", "odd.avi", "rotated.mp4", "edit_list.mp4", "images"])
def test_a_decoder_gives_what_reading_gives(one: Decoders, tmp_path: Path, name: str):
    path = CLIPS / name
    if name == "images":
        path = tmp_path
        for number in range(12):
            cv2.imwrite(str(path / f"img_{number}.png"), np.full((30, 41, 3), number, np.uint8))
    for here, there in zip(read_clip(path, COUNTS), one.read(path, COUNTS), strict=True):
        assert np.array_equal(here.frames, there.frames)
        assert here.frames.dtype == there.frames.dtype
        assert here.index.tolist() == there.index.tolist()
        assert (here.total, here.claimed) == (there.total, there.claimed)


def test_errors_come_back_as_they_are_and_the_decoder_goes_on(one: Decoders, tmp_path: Path):
    one.read(GOOD, COUNTS)
    running = children()
    with pytest.raises(ValueError, match=r"^unreadable: not a video$"):
        one.read(CLIPS / "audio_only.mp4", COUNTS)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/a\.mp4'"):
        one.read(tmp_path / "a.mp4", COUNTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"^unreadable: no images in the folder empty$"):
        one.read(tmp_path / "empty", COUNTS)
    assert is_good(one.read(GOOD, COUNTS))
    assert children() == running


def test_what_opencv_refuses_is_undecodable(one: Decoders, tmp_path: Path):
    """A picture of some bytes whose header says 70,000 by 70,000."""
    content = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    content[16:24] = struct.pack(">II", 70_000, 70_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"^undecodable: .*CV_IO_MAX_IMAGE_PIXELS"):
        one.read(tmp_path, COUNTS)
    assert is_good(one.read(GOOD, COUNTS))


def test_a_name_that_is_no_text_is_read(one: Decoders, tmp_path: Path):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/b\xff\n.mp4"))
    path.write_bytes(GOOD.read_bytes())
    assert is_good(one.read(path, COUNTS))


def test_what_native_libraries_print_goes_nowhere(one: Decoders, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """libpng writes to stderr itself; on stdout it would fall among the frames."""
    content = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8))[1].tobytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"undecodable: 1\.png is no image"):
        one.read(tmp_path, COUNTS)
    (pid,) = children()
    assert {Path(f"/proc/{pid}/fd/{number}").readlink() for number in (1, 2)} == {Path(os.devnull)}
    assert capfd.readouterr() == ("", "")


def test_a_long_video_takes_no_more_memory_than_a_short_one(one: Decoders, tmp_path: Path):
    """All 4000 frames would be 180 MB."""

    def peak_after(count: int) -> int:
        path = tmp_path / f"{count}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (160, 96))
        for number in range(count):
            writer.write(np.full((96, 160, 3), number % 256, np.uint8))
        writer.release()
        assert one.read(path, COUNTS)[0].total == count
        (pid,) = children()
        (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1])

    short = peak_after(40)
    assert peak_after(4000) < short + 20_000


# -- how many there are


def test_a_decoder_is_started_when_it_is_needed():
    before = children()
    with Decoders(4) as decoders:
        assert children() == before
        for _ in range(3):
            decoders.read(GOOD, COUNTS)
        assert len(children() - before) == 1


def test_many_threads_share_few_decoders():
    before, paths = children(), [GOOD, CLIPS / "mpeg4.avi", CLIPS / "odd.mp4", CLIPS / "faststart.mp4"] * 6
    with Decoders(2) as decoders, ThreadPoolExecutor(8) as pool:
        clips = list(pool.map(lambda path: decoders.read(path, COUNTS)[1], paths))
        assert 1 <= len(children() - before) <= 2
    for path, clip in zip(paths, clips, strict=True):
        assert np.array_equal(clip.frames, read_clip(path, COUNTS)[1].frames)


def test_no_decoders_are_refused():
    with pytest.raises(ValueError, match="0 decoders: wanted at least 1"):
        Decoders(0)


def test_a_decoder_loads_nothing_heavy():
    code = "import sys, mmcl.pipeline.videos.decoder; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "transformers", "h5py"} & set(loaded)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "raise SystemExit(3)"], "no decoder can be started: .*left with exit code 3"),
        (["/nowhere/python"], "no decoder can be started: .*No such file or directory: '/nowhere/python'"),
    ],
)
def test_decoders_that_cannot_be_started_are_no_clips_fault(
    one: Decoders, monkeypatch: pytest.MonkeyPatch, command: list[str], reason: str
):
    monkeypatch.setattr(decoder, "COMMAND", command)
    with pytest.raises(RuntimeError, match=reason):
        one.read(GOOD, COUNTS)


def test_modules_that_lie_about_are_not_imported(one: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cv2.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert is_good(one.read(GOOD, COUNTS))


# -- stuck, crashed, stopped


def test_a_decoder_stuck_in_native_code_is_ended_and_the_next_clip_is_read(stuck: Path):
    with Decoders(1, deadline=2) as decoders:
        with pytest.raises(TimeoutError, match=r"^timeout: no sign of life for 2 s$"):
            decoders.read(stuck, COUNTS)
        assert not children()
        assert is_good(decoders.read(GOOD, COUNTS))


def test_a_stopped_decoder_is_ended():
    with Decoders(1, deadline=2) as decoders:
        decoders.read(GOOD, COUNTS)
        (pid,) = children()
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError, match="timeout: no sign of life"):
            decoders.read(GOOD, COUNTS)
        assert not children()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, r"^crashed: the decoder died of signal 11 \(Segmentation fault\)$"),
        (signal.SIGKILL, r"^crashed: the decoder died of signal 9 \(Killed\)$"),
    ],
)
def test_a_crash_costs_the_clip_alone(one: Decoders, stuck: Path, number: int, reason: str):
    one.read(GOOD, COUNTS)
    (pid,) = children()
    with once_stuck(stuck, lambda: os.kill(pid, number)), pytest.raises(ValueError, match=reason):
        one.read(stuck, COUNTS)
    assert is_good(one.read(GOOD, COUNTS))
    assert children().isdisjoint({pid})


def test_a_decoder_that_died_between_two_clips_costs_none(one: Decoders):
    one.read(GOOD, COUNTS)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert is_good(one.read(GOOD, COUNTS))


def feed(pipe: Path, opened: threading.Event) -> None:
    """Pictures into a named pipe, as long as somebody reads them."""
    picture = cv2.imencode(".jpg", np.full((96, 160, 3), 90, np.uint8))[1].tobytes()
    with suppress(BrokenPipeError), pipe.open("wb") as file:
        opened.set()
        while True:
            file.write(picture)


def test_a_decoder_at_work_is_alive_and_a_stream_without_end_is_ended(stuck: Path, monkeypatch: pytest.MonkeyPatch):
    """It works for longer than it may be silent; then its time for one clip is over."""
    monkeypatch.setattr(decoder, "LIMIT", 3.0)
    feeding = threading.Thread(target=feed, args=(stuck, threading.Event()))
    feeding.start()
    with Decoders(1, deadline=2) as decoders, pytest.raises(TimeoutError, match=r"^timeout: still decoding after 3 s$"):
        decoders.read(stuck, COUNTS)
    feeding.join()


def test_after_an_interrupted_read_the_next_one_gets_its_own_frames(one: Decoders, stuck: Path):
    with once_stuck(stuck, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        one.read(stuck, COUNTS)
    assert is_good(one.read(GOOD, COUNTS))


# -- the end


def test_closing_ends_decoders_that_are_stuck(stuck: Path):
    decoders = Decoders(2)
    with ThreadPoolExecutor(3) as pool:
        reads = [pool.submit(decoders.read, stuck, COUNTS) for _ in range(3)]  # one of them waits for a decoder
        assert soon(lambda: len(children()) == 2)
        decoders.close()
        for read in reads:
            with pytest.raises(RuntimeError, match="the decoders are closed"):
                read.result()
    assert not children()
    with pytest.raises(RuntimeError, match="the decoders are closed"):
        decoders.read(GOOD, COUNTS)
    decoders.close()


def test_closing_does_not_wait_for_a_decoder_at_work(stuck: Path):
    opened = threading.Event()
    feeding = threading.Thread(target=feed, args=(stuck, opened))
    feeding.start()
    with ThreadPoolExecutor(1) as pool, Decoders(1) as decoders:
        read = pool.submit(decoders.read, stuck, COUNTS)
        assert opened.wait(60)
        decoders.close()
        with pytest.raises(RuntimeError, match="the decoders are closed"):
            read.result()
    feeding.join()


def test_closing_sees_a_decoder_that_is_just_being_started(monkeypatch: pytest.MonkeyPatch):
    decoders, real = Decoders(1), decoder._start
    closing = threading.Thread(target=decoders.close)

    def start() -> subprocess.Popen[bytes]:
        closing.start()
        assert soon(decoders._closed.is_set)
        return real()

    monkeypatch.setattr(decoder, "_start", start)
    with pytest.raises(RuntimeError, match="the decoders are closed"):
        decoders.read(GOOD, COUNTS)
    closing.join()


def test_the_parents_signals_are_not_the_decoders(one: Decoders):
    """Ctrl-C and a scheduler's SIGTERM reach every process; the parent may want to finish what it is at."""
    one.read(GOOD, COUNTS)
    (pid,) = children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert is_good(one.read(GOOD, COUNTS))
    assert children() == {pid}


PARENT = """
import sys, threading, time
from pathlib import Path
from mmcl.pipeline.videos.decoder import Decoders
good, stuck = map(Path, sys.argv[1:])
with Decoders(2) as decoders:
    threading.Thread(target=lambda: decoders.read(stuck, (5,)), daemon=True).start()
    try:
        while True:
            decoders.read(good, (5,))
            time.sleep(0.1)
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.fixture
def parent(stuck: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process with two decoders, one of them stuck; it has a process group of its own, as in a shell."""
    command = [sys.executable, "-c", PARENT, str(GOOD), str(stuck)]
    hanging = threading.Event()
    with (
        once_stuck(stuck, hanging.set),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process,
    ):
        assert hanging.wait(60)
        assert soon(lambda: len(children(process.pid)) == 2)
        yield process
        process.kill()


def test_decoders_go_when_their_parent_is_killed(parent: subprocess.Popen[str]):
    """Also the one that is stuck and would not see the end of its input."""
    pids = children(parent.pid)
    parent.kill()
    parent.wait()
    assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_ctrl_c_is_the_parents_affair(parent: subprocess.Popen[str]):
    """Pressed at any moment, no decoder prints a traceback."""
    pids = children(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    out, errors = parent.communicate(timeout=60)
    assert out == "stopped\n"
    assert "KeyboardInterrupt" not in errors
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
