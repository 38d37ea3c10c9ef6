"""A run's epochs in TensorBoard and Weights & Biases, through accelerate."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker

from ...cache.files import write_bytes
from ..config import as_dict
from ..processes import share
from ..run import Run
from .checkpoint import EpochMetrics, Watcher

TAGS = {
    "lr": "lr",
    "loss": "loss/total",
    "classify": "loss/classify",
    "align": "loss/align",
    "refine": "loss/refine",
    "train_top1": "top-1/train",
    "held_out_top1": "top-1/held out",
    "seconds": "seconds",
}  # columns of metrics.csv, and what they are called in a log


class Target(NamedTuple):
    """Where a tracker writes: the run's folder, the run, its own name for it, and the last epoch that it has."""

    out: Path
    run: Run
    identity: str
    logged: int


class Kind(NamedTuple):
    """A tracker: what must be installed for it, and how it is opened."""

    module: str
    open: Callable[[Target], GeneralTracker]


@contextmanager
def tracker(names: Sequence[str], out: Path, run: Run) -> Iterator[Watcher]:
    """A Watcher that logs each epoch with the named trackers, in the main process.

    A resumed run goes on in the same log: what each tracker has is noted in `out`/tracking.json, and epochs that a kill
    kept from it are taken from metrics.csv. Nothing is written before the first step. Raises ValueError for an unknown
    name and for one that is not installed, RuntimeError where a tracker can't be started.
    """
    for name in names:
        _refuse_absent(name)
    log = Log(tuple(dict.fromkeys(names)), out, run)
    try:
        yield log
        log.finish()
    finally:
        log.close()


def both(*watchers: Watcher) -> Watcher:
    """One Watcher that tells all of them."""
    return _Both(watchers)


class _Both:
    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def step(self, done: int, total: int) -> None:
        for watcher in self._watchers:
            watcher.step(done, total)

    def epoch(self, line: EpochMetrics) -> None:
        for watcher in self._watchers:
            watcher.epoch(line)


class Log:
    """The open trackers of a run, and which epochs each of them has."""

    def __init__(self, names: Sequence[str], out: Path, run: Run) -> None:
        self._names, self._out, self._run = names, out, run
        self._open: dict[str, GeneralTracker] = {}
        self._identity, self._logged = "", dict.fromkeys(names, 0)

    def step(self, done: int, total: int) -> None:
        """The first step opens the log: by then the run's folder is known to be its own."""
        if not self._open and self._names and share().main:
            self._start()

    def epoch(self, line: EpochMetrics) -> None:
        self.step(0, 0)
        self._write({**_epochs(self._out), line.epoch: asdict(line)})

    def finish(self) -> None:
        """What a run that was killed after its last epoch could not log any more."""
        epochs = _epochs(self._out)
        if epochs and self._names and share().main:
            self._read_notes()
            if min(self._logged.values()) < max(epochs):
                self.step(0, 0)
                self._write(epochs)

    def close(self) -> None:
        for opened in self._open.values():
            opened.finish()

    def _start(self) -> None:
        self._read_notes()
        for name in self._names:
            self._open[name] = TRACKERS[name].open(Target(self._out, self._run, self._identity, self._logged[name]))

    def _read_notes(self) -> None:
        """Notes without a metrics.csv are those of a run that was here before."""
        path = self._out / "tracking.json"
        known = path.exists() and (self._out / "metrics.csv").exists()
        notes = json.loads(path.read_text()) if known else {}
        self._identity = notes.get("identity") or uuid4().hex[:12]
        self._logged = {name: notes.get("logged", {}).get(name, 0) for name in self._names}

    def _write(self, epochs: Mapping[int, Mapping[str, float | str]]) -> None:
        """Log what each tracker does not have yet, and note it."""
        for name, opened in self._open.items():
            for epoch in sorted(epochs):
                if epoch > self._logged[name]:
                    opened.log(_values(epochs[epoch], self._run), step=epoch)
                    self._logged[name] = epoch
        if self._open:
            notes = {"identity": self._identity, "logged": self._logged}
            write_bytes(self._out / "tracking.json", json.dumps(notes, indent=1).encode())


def _refuse_absent(name: str) -> None:
    if name not in TRACKERS:
        raise ValueError(f"--track {name}: known are {', '.join(TRACKERS)}")
    try:
        import_module(TRACKERS[name].module)
    except ImportError as error:
        raise ValueError(f"--track {name}: not installed ({error}); pip install 'mmcl[{name}]'") from error


def _epochs(out: Path) -> dict[int, dict[str, str]]:
    """The lines of metrics.csv by epoch."""
    path = out / "metrics.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {int(line["epoch"]): line for line in csv.DictReader(file)}


def _values(line: Mapping[str, float | str], run: Run) -> dict[str, float]:
    """One epoch as it is logged: only what the run has."""
    absent = {"align": not run.rgb, "refine": not run.text, "held_out_top1": float(line["held_out_top1"]) < 0}
    tags = TAGS | ({"held_out_top1": "top-1/TEST SET"} if run.config.select_on_test else {})
    return {tag: float(line[column]) for column, tag in tags.items() if not absent.get(column)}


def _tensorboard(target: Target) -> GeneralTracker:
    """Events in `out`/tensorboard; what was written after the last noted epoch is struck out."""
    opened = TensorBoardTracker("tensorboard", target.out, purge_step=target.logged + 1)
    opened.start()
    if not target.logged:
        opened.log({"config": "\n".join(f"    {line}" for line in _settings(target.run))}, step=0)
    return opened


def _settings(run: Run) -> Iterable[str]:
    return (f"{name} = {value}" for name, value in as_dict(run.config).items())


def _wandb(target: Target) -> GeneralTracker:
    """A run of the project mmcl, under the same id whenever it goes on; its files are in `out`/wandb."""
    import wandb  # pyright: ignore[reportMissingImports] -- an extra

    opened = WandBTracker("mmcl", name=target.out.name, id=target.identity, resume="allow", dir=str(target.out))
    try:
        opened.start()
    except wandb.Error as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise RuntimeError(f"--track wandb: {said}; WANDB_MODE=offline logs without an account") from error
    opened.store_init_configuration({"dataset": target.run.dataset, **as_dict(target.run.config)})
    return opened


TRACKERS = {  # a module within wandb: it leaves a folder of that name, which is no package, where it was used
    "tensorboard": Kind("torch.utils.tensorboard", _tensorboard),
    "wandb": Kind("wandb.sdk", _wandb),
}
