"""What is seen of a run: plain lines away from a terminal, a live picture on one, and a terminal left as it was."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from mmcl.pipeline.preparation.layouts import KINECT_V1
from mmcl.trainer.config import Config
from mmcl.trainer.loop import view as view_module
from mmcl.trainer.loop.checkpoint import EpochMetrics
from mmcl.trainer.loop.view import epoch_line, sparkline, view
from mmcl.trainer.run import Run

CACHE = {"key": "abc"}
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def run_of(dataset: str = "acted", *, rgb: bool = False, text: bool = False, **config: object) -> Run:
    return Run(
        Config(**({"width": 8, "batch": 4, "epochs": 3} | config)), dataset, "data", "digest", ("clap", "wave"),
        KINECT_V1, 1, "zero", 8, 0, CACHE if rgb else None, (CACHE,) if text else (), {}, {"mmcl": "0"},
    )  # fmt: skip


def epoch(number: int, held_out: float = -1.0) -> EpochMetrics:
    return EpochMetrics(number, 0.1, 2.5 / number, 2.0 / number, 1.25, 0.75, 0.5, held_out, 12.0)


class Clock:
    """Seconds as the test says they pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(view_module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def plain() -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=60), file


def terminal(height: int = 24, width: int = 100) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=width, height=height, legacy_windows=False), file


def picture(run: Run, epochs: int, *, height: int = 24, width: int = 100, held_out: float = -1.0) -> list[str]:
    """The lines of the picture after so many epochs of ten steps."""
    console, _ = terminal(height, width)
    with view(console, run) as watcher:
        for number in range(1, epochs + 1):
            for step in range(1, 11):
                watcher.step((number - 1) * 10 + step, run.config.epochs * 10)
            watcher.epoch(epoch(number, held_out))
        shown = Console(file=io.StringIO(), width=width, height=height)
        shown.print(watcher)
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue().rstrip("\n").split("\n")


def test_a_finished_epoch_is_one_line_that_never_breaks():
    console, file = plain()
    with view(console, run_of(rgb=True, text=True, validation="0.2")) as watcher:
        watcher.step(10, 30)
        watcher.epoch(epoch(1, 0.25))
    assert file.getvalue() == (
        "epoch   1/3  lr 0.1  loss 2.500 (classify 2.000, align 1.250, refine 0.750)  train  50.0%  held out  25.0%"
        "  12.0 s\n"
    )


def test_a_line_has_only_the_losses_of_heads_that_are_there():
    assert epoch_line(epoch(1), run_of()) == "epoch   1/3  lr 0.1  loss 2.500  train  50.0%"
    assert "(classify 2.000, align 1.250)" in epoch_line(epoch(1), run_of(rgb=True))
    assert "(classify 2.000, refine 0.750)" in epoch_line(epoch(1), run_of(text=True))


def test_a_choice_on_the_test_set_is_said_in_every_line():
    assert epoch_line(epoch(1, 0.25), run_of(select_on_test=True)).endswith("TEST SET  25.0%")
    assert any("TEST SET" in line for line in picture(run_of(select_on_test=True), 1, held_out=0.25))


def test_a_small_rate_is_not_shown_as_none():
    assert "lr 3.2e-06 " in epoch_line(replace(epoch(1), lr=3.2e-6), run_of())


def test_long_epochs_get_a_line_every_quarter_of_a_minute(clock: Clock):
    """One step a second, four clips each, after a resume at step 1000 of 3 epochs of 1000 steps."""
    console, file = plain()
    with view(console, run_of()) as watcher:
        for done in range(1001, 1041):
            clock.now += 1
            watcher.step(done, 3000)
    lines = file.getvalue().splitlines()
    assert lines == [
        "epoch   2/3: 15/1000 steps, 4 clips/s, 0:33:05 left",
        "epoch   2/3: 30/1000 steps, 4 clips/s, 0:32:50 left",
    ]


def test_short_epochs_get_no_line_within(clock: Clock):
    console, file = plain()
    with view(console, run_of()) as watcher:
        for done in range(1, 31):
            clock.now += 1
            watcher.step(done, 30)
            if done % 10 == 0:
                watcher.epoch(epoch(done // 10))
    assert [line.split()[1] for line in file.getvalue().splitlines()] == ["1/3", "2/3", "3/3"]


def test_the_rate_is_that_of_the_last_while(clock: Clock):
    """A slow start is forgotten: the first step took a minute, the others 0.1 s."""
    console, file = plain()
    with view(console, run_of()) as watcher:
        for done in range(1, 1001):
            clock.now += 60 if done == 2 else 0.1
            watcher.step(done, 3000)
    assert file.getvalue().splitlines()[-1] == "epoch   1/3: 908/1000 steps, 40 clips/s, 0:03:29 left"


def test_the_picture_has_the_run_the_epochs_the_loss_and_a_bar():
    lines = picture(run_of(validation="0.2"), 2, held_out=0.25)
    assert lines[0] == "acted xsub, joint: ctrgcn, width 8, batch 4, seed 1; keeps the best epoch on held-out 0.2"
    assert lines[1].split() == ["epoch", "lr", "loss", "train", "held", "out", "seconds"]
    assert lines[3].split() == ["1", "0.1", "2.500", "50.0%", "25.0%", "12.0"]
    assert lines[5] == "loss █▁"
    assert lines[6].startswith("epoch 2/3 ━") and lines[6].endswith("left")
    assert len(lines) == 7


def test_the_picture_leaves_out_heads_that_are_not_there():
    assert "align" not in "".join(picture(run_of(), 2))
    assert picture(run_of(rgb=True, text=True), 2)[1].split()[2:6] == ["loss", "classify", "align", "refine"]


@pytest.mark.parametrize(("height", "rows"), [(24, 8), (10, 3), (3, 1)])
def test_the_picture_fits_on_the_terminal(height: int, rows: int):
    lines = picture(run_of(epochs=20), 20, height=height, width=60)
    shown = [line.split()[0] for line in lines if line.endswith("12.0")]
    assert shown == [str(number) for number in range(21 - rows, 21)]
    assert all(len(line) <= 60 for line in lines)


def test_a_name_cannot_steer_the_terminal():
    lines = picture(run_of("\x1b[31m[bold]acted[/bold]\x1b]0;title\x07"), 1)
    assert "\x1b" not in "".join(lines) and "\x07" not in "".join(lines)
    assert "[bold]acted[/bold]" in lines[0]


def test_a_terminal_without_such_letters_gets_no_blocks():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=file, force_terminal=True, width=100, legacy_windows=False)
    with view(console, run_of()) as watcher:
        for number in (1, 2):
            watcher.step(number, 3)
            watcher.epoch(epoch(number))
    file.flush()
    assert b"epoch 2/3" in file.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [RuntimeError("the loss is not finite"), KeyboardInterrupt()])
def test_the_terminal_is_as_it_was_after_an_error(error: BaseException):
    console, file = terminal()
    stdout, stderr = sys.stdout, sys.stderr
    with pytest.raises(type(error)), view(console, run_of()) as watcher:
        watcher.step(1, 30)
        raise error
    shown = file.getvalue()
    assert shown.count(HIDE_CURSOR) == 1 and shown.rindex(SHOW_CURSOR) > shown.rindex(HIDE_CURSOR)
    assert shown.endswith(("\n", SHOW_CURSOR))
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


LIVE = """
from rich.console import Console
from mmcl.trainer.loop.view import view
from mmcl.tests.test_view import epoch, run_of
with view(Console(highlight=False), run_of()) as watcher:
    for number in (1, 2):
        watcher.step(number, 3)
        watcher.epoch(epoch(number))
    raise SystemExit("ended early")
"""


def test_on_a_real_terminal_the_picture_is_drawn_and_the_cursor_comes_back():
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "90", "LINES": "20"}
    process = subprocess.Popen([sys.executable, "-c", LIVE], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 1
    text = shown.decode()
    assert "epoch 2/3" in text and "ended early" in text
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_a_sparkline_falls_with_the_loss_and_has_a_place_for_what_is_not_finite():
    assert sparkline([8.0, 6.0, 4.0, 1.0], 10) == "█▆▄▁"
    assert sparkline([2.0, float("nan"), 1.0], 10) == "█ ▁"
    assert sparkline([3.0, 3.0], 10) == "▁▁"
    assert sparkline([], 10) == sparkline([float("inf")], 10).strip() == ""


def test_a_long_course_is_drawn_whole_in_the_width_there_is():
    assert sparkline([float(x) for x in range(800, 0, -1)], 8) == "█▇▆▅▄▃▂▁"
