"""TensorBoard and Weights & Biases: every epoch once, whatever happens, and nothing where it is not wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path

import pytest
from accelerate.tracking import GeneralTracker

from mmcl.cache.files import write_csv
from mmcl.tests.test_view import epoch, run_of
from mmcl.trainer.loop import tracking
from mmcl.trainer.loop.checkpoint import EpochMetrics
from mmcl.trainer.loop.tracking import TRACKERS, Kind, Target, both, tracker
from mmcl.trainer.processes import Share

Lines = list[tuple[int | None, dict[str, float]]]


class Noted(GeneralTracker):
    """A tracker that remembers; opened anew it goes on in the same list."""

    name, requires_logging_directory, tracker = "noted", False, None

    def __init__(self) -> None:
        super().__init__()
        self.lines: Lines = []
        self.targets: list[Target] = []
        self.closed = 0

    def open(self, target: Target) -> GeneralTracker:
        self.targets.append(target)
        return self

    def log(self, values: dict[str, float], step: int | None = None, **kwargs: object) -> None:
        self.lines.append((step, values))

    def finish(self) -> None:
        self.closed += 1

    @property
    def epochs(self) -> list[int | None]:
        return [step for step, _ in self.lines]


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    noted = Noted()
    monkeypatch.setitem(TRACKERS, "noted", Kind("json", noted.open))
    return noted


def write_metrics(out: Path, epochs: int) -> None:
    """metrics.csv as training writes it, before it tells a watcher of the epoch."""
    lines = [[*asdict(epoch(number)).values(), "last epoch"] for number in range(1, epochs + 1)]
    write_csv(out / "metrics.csv", [*(field.name for field in fields(EpochMetrics)), "kept"], lines)


def train(out: Path, names: Sequence[str], epochs: Sequence[int], *, killed: bool = False, **run: object) -> None:
    """A training of these epochs; killed, it ends between the last one's metrics and its watcher."""
    with tracker(names, out, run_of(**run)) as watcher:  # type: ignore[arg-type]
        for number in epochs:
            watcher.step(number, 3)
            write_metrics(out, number)
            if killed and number == epochs[-1]:
                raise InterruptedError
            watcher.epoch(epoch(number))


def test_every_epoch_is_logged_once_and_the_log_is_closed(noted: Noted, tmp_path: Path):
    train(tmp_path, ["noted", "noted"], [1, 2])
    assert noted.epochs == [1, 2]
    assert noted.lines[1][1] == {
        "lr": 0.1, "loss/total": 1.25, "loss/classify": 1.0, "top-1/train": 0.5, "seconds": 12.0,
    }  # fmt: skip
    assert len(noted.targets) == noted.closed == 1


def test_what_is_logged_is_what_the_run_has(noted: Noted, tmp_path: Path):
    with tracker(["noted"], tmp_path, run_of(rgb=True, text=True, select_on_test=True)) as watcher:
        watcher.epoch(epoch(1, 0.25))
    logged = noted.lines[0][1]
    assert (logged["loss/align"], logged["loss/refine"], logged["top-1/TEST SET"]) == (1.25, 0.75, 0.25)
    assert "top-1/held out" not in logged


def test_a_resumed_run_goes_on_in_the_same_log(noted: Noted, tmp_path: Path):
    """Killed after an epoch's metrics and before its log: the line comes later, and none comes twice."""
    with pytest.raises(InterruptedError):
        train(tmp_path, ["noted"], [1, 2], killed=True)
    assert noted.epochs == [1] and noted.closed == 1
    train(tmp_path, ["noted"], [3])
    assert noted.epochs == [1, 2, 3]
    assert [target.logged for target in noted.targets] == [0, 1]
    assert noted.targets[0].identity == noted.targets[1].identity


def test_a_run_killed_after_its_last_epoch_still_gets_it_logged(noted: Noted, tmp_path: Path):
    with pytest.raises(InterruptedError):
        train(tmp_path, ["noted"], [1, 2, 3], killed=True)
    train(tmp_path, ["noted"], [])
    train(tmp_path, ["noted"], [])
    assert noted.epochs == [1, 2, 3]
    assert len(noted.targets) == 2  # the third time there is nothing to open it for


def test_a_tracker_that_comes_later_gets_the_epochs_before_it(noted: Noted, tmp_path: Path):
    train(tmp_path, [], [1, 2])
    assert not (tmp_path / "tracking.json").exists()
    train(tmp_path, ["noted"], [3])
    assert noted.epochs == [1, 2, 3]


def test_a_new_run_in_an_emptied_folder_is_another_log(noted: Noted, tmp_path: Path):
    train(tmp_path, ["noted"], [1, 2])
    (tmp_path / "metrics.csv").unlink()
    train(tmp_path, ["noted"], [1])
    assert noted.epochs == [1, 2, 1]
    assert noted.targets[0].identity != noted.targets[1].identity


def test_only_the_main_process_logs(noted: Noted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking, "share", lambda: Share(1, 2))
    train(tmp_path, ["noted"], [1])
    assert not noted.targets and not (tmp_path / "tracking.json").exists()


def test_nothing_is_written_before_the_first_step(noted: Noted, tmp_path: Path):
    """Until then a folder may turn out to be another run's."""
    with pytest.raises(InterruptedError), tracker(["noted"], tmp_path / "run", run_of()):
        raise InterruptedError
    assert not noted.targets and not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_with_the_known(tmp_path: Path):
    said = "--track tensorbord: known are tensorboard, wandb"
    with pytest.raises(ValueError, match=said), tracker(["tensorbord"], tmp_path, run_of()):
        pytest.fail("trained")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused_with_the_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(TRACKERS, name, TRACKERS[name]._replace(module=f"{name}_that_is_not_there"))
    said = (
        rf"^--track {name}: not installed \(No module named '{name}_that_is_not_there'\); pip install 'mmcl\[{name}\]'$"
    )
    with pytest.raises(ValueError, match=said), tracker([name], tmp_path, run_of()):
        pytest.fail("trained")


def test_a_folder_that_wandb_left_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if find_spec("wandb"):
        pytest.skip("wandb is installed")
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="--track wandb: not installed"), tracker(["wandb"], tmp_path, run_of()):
        pytest.fail("trained")


def test_both_are_told_of_everything():
    told: list[tuple[str, object]] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        def step(self, done: int, total: int) -> None:
            told.append((self.name, done / total))

        def epoch(self, line: EpochMetrics) -> None:
            told.append((self.name, line))

    watcher = both(Ear("one"), Ear("other"))
    watcher.step(1, 2)
    watcher.epoch(epoch(1))
    assert told == [("one", 0.5), ("other", 0.5), ("one", epoch(1)), ("other", epoch(1))]


def test_tensorboard_shows_each_epoch_once_after_a_resume(tmp_path: Path):
    """Read back as TensorBoard reads it: a kill came after the last line and before it was noted."""
    pytest.importorskip("tensorboard", reason="the extra mmcl[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import (  # pyright: ignore[reportMissingImports]
        EventAccumulator,
    )

    train(tmp_path, ["tensorboard"], [1, 2], rgb=True)
    notes = json.loads((tmp_path / "tracking.json").read_text())
    notes["logged"]["tensorboard"] = 1
    (tmp_path / "tracking.json").write_text(json.dumps(notes))
    train(tmp_path, ["tensorboard"], [3], rgb=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    wanted = {"lr", "loss/total", "loss/classify", "loss/align", "top-1/train", "seconds"}
    assert set(events.Tags()["scalars"]) == wanted
    for tag in wanted:
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3], tag
    losses = [event.value for event in events.Scalars("loss/total")]
    assert losses == pytest.approx([epoch(number).loss for number in (1, 2, 3)])
    (settings,) = events.Tensors("config/text_summary")
    assert re.search(rb"^ +width = 8$", settings.tensor_proto.string_val[0], re.MULTILINE)


def test_wandb_keeps_one_run_for_a_resumed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Offline: each part lies in a folder that ends in the run's id."""
    pytest.importorskip("wandb.sdk", reason="the extra mmcl[wandb] is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tmp_path, ["wandb"], [1, 2])
    train(tmp_path, ["wandb"], [3])
    identity = json.loads((tmp_path / "tracking.json").read_text())["identity"]
    parts = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert parts and len(parts) == len(list((tmp_path / "wandb").glob("offline-run-*")))


def test_wandb_that_cannot_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wandb = pytest.importorskip("wandb.sdk", reason="the extra mmcl[wandb] is not installed") and __import__("wandb")

    def refuse(**settings: object) -> None:
        raise wandb.Error("no API key\nand more")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(RuntimeError, match=r"^--track wandb: no API key; WANDB_MODE=offline logs without an account$"):
        train(tmp_path, ["wandb"], [1])
