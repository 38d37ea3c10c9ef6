"""Stage two: a skeleton network trained against cached features. Knows no raw file and no big model."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...cache.files import write_csv
from ...cache.lock import locked
from ...cache.skeletons import TEST
from ...cache.words import printable
from ..colearning.objective import Heads, build_heads
from ..config import Config
from ..data.skeleton import body_of, pack
from ..model import SkeletonClassifier
from ..plan import Plan
from ..processes import Share, apart, share, summed
from ..report import kept_line, run_lines
from ..run import Run, refuse_other, write_run
from ..testing.scoring import BATCH, score
from .checkpoint import EpochMetrics, State, Watcher, load_state, network_of, save_state, save_weights, weights_of
from .compute import Network, compiled
from .device import process_device
from .epoch import NUMBERS, Epoch, Training, forward_backward, memory_error
from .gradients import Gradients
from .heap import keep_freed
from .inputs import Feed, epoch_order, inputs_of
from .memory import is_short
from .schedule import base_rate, learning_rate
from .together import from_main
from .view import epoch_line

LOCK = "train.lock"


def train(
    planned: Plan,
    out: Path,
    watch: Watcher,
    *,
    stop: Callable[[], bool] = lambda: False,
    device: str | None = None,
) -> State:
    """Train, or go on where a run of the same plan was killed or stopped; the last good state is always on disk.

    Under a launcher all processes train one network; the main one writes. `stop` is asked after each step: where it
    says True in one process, the state is saved and is not `finished`. Raises ValueError where `out` holds another run,
    BlockingIOError where another process trains it, RuntimeError where a loss stops being finite or memory is short.
    """
    where = process_device(device)
    if where.type == "cpu":
        keep_freed()
    with _sole(out):
        from_main(lambda: _claim(out, planned.run))
        training = set_up(planned, where)
        state = load_state(out, training.modules, training.optimizer)
        whole = from_main((out / "model.safetensors").exists)
        if whole and not state.kept_in_words:  # somebody cleared the state of a finished run away
            state.epoch = planned.run.config.epochs
        state.finished = whole and state.epoch == planned.run.config.epochs
        if not state.finished:
            _train(training, planned, out, state, watch if share().main else _Unwatched(), stop)
    return state


def set_up(planned: Plan, device: torch.device) -> Training:
    """Network, heads, optimizer and data of a plan on this process's device, as they are before the first step."""
    run, config, skeletons, own = planned.run, planned.run.config, planned.skeletons, share()
    model, heads = _seeded(planned)
    model.to(device)
    heads.to(device)
    weights = [*model.parameters(), *heads.parameters()]
    saves = run.body_rule == "zero" and run.slots > 1
    return Training(
        config=config,
        device=device,
        share=own,
        model=model,
        heads=heads,
        network=model,
        optimizer=_optimizer(model, heads, config),
        gradients=Gradients(weights, own.world, NUMBERS),
        packed=pack(skeletons).to(device),
        labels=torch.tensor(skeletons.split_labels(config.split)).to(device),
        body=body_of(run.layout, run.slots, run.body_rule),
        names=skeletons.names,
        feed=Feed(
            config=config,
            share=own,
            train=planned.split.train,
            rgb=planned.rgb,
            text=planned.text,
            counts=torch.tensor(skeletons.bodies).long(),
            slots=run.slots if saves else 0,
            pin=device.type == "cuda",
        ),
    )


def _seeded(planned: Plan) -> tuple[SkeletonClassifier, Heads]:
    """The network's start depends on the seed alone, not on which heads are there; then the weights it starts from."""
    run, config = planned.run, planned.run.config
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = run.build()
        torch.default_generator.manual_seed(config.seed)
        width, classes = model.classifier.in_features, len(run.classes)
        heads = build_heads(planned.rgb, planned.text, feature_dim=width, classes=classes, config=config)
    if planned.start is not None:
        model.load_state_dict(planned.start, strict=False)
    return model, heads


def _optimizer(model: nn.Module, heads: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD; a learned temperature is not drawn to 1 by the weight decay."""
    learned = [weight for name, weight in heads.named_parameters() if name.endswith("log_temperature")]
    others = [weight for weight in (*model.parameters(), *heads.parameters()) if all(weight is not t for t in learned)]
    return torch.optim.SGD(
        [{"params": others}, *({"params": [weight], "weight_decay": 0.0} for weight in learned)],
        lr=base_rate(config),
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _train(
    training: Training, planned: Plan, out: Path, state: State, watch: Watcher, stop: Callable[[], bool]
) -> None:
    """The epochs that are left, and what a finished run leaves."""
    resumed = [f"resumed after {state.kept_in_words}"] if state.kept_in_words else []
    _log(out, *run_lines(planned.run), *resumed)
    training = _compiled(training, out)

    def keep() -> None:
        if training.share.main:
            save_state(out, state, weights_of(training.modules), training.optimizer)
        state.kept = (state.epoch, state.step)

    while state.epoch < training.config.epochs:
        if not Epoch(training, state, keep).run(watch, stop):
            _log(out, f"stopped after {state.kept_in_words}")
            return
        line = _advance(state, training, planned)
        keep()
        _write_metrics(out / "metrics.csv", state.history, planned.run)
        _log(out, epoch_line(line, planned.run))
        watch.epoch(line)
    _finish(training, planned.run, out, state)


def _compiled(training: Training, out: Path) -> Training:
    """Training with the compiled network where one is asked for; a line says why where that cannot be."""
    feed, config = training.feed, training.config

    def trial(network: Network) -> None:
        own = replace(config, batch=len(range(config.batch)[training.share.rows(config.batch)]))
        by_myself = replace(feed, config=own, share=Share())
        inputs = inputs_of(by_myself, epoch_order(feed.train, config, 0), 0, 0).to(training.device)
        with apart():  # where one process can't compile, no other waits for it
            forward_backward(replace(training, network=network, config=own, share=Share(), feed=by_myself), inputs)

    training.model.train()
    network, why = _tried(training, trial)
    training.gradients.clear()
    if why:
        _log(out, why)
        _say(why)
    return replace(training, network=network)


def _tried(training: Training, trial: Callable[[Network], None]) -> tuple[Network, str]:
    try:
        return compiled(training.model, training.config, training.device, trial)
    except Exception as error:
        if not is_short(error):
            raise
    raise memory_error(training)


def _advance(state: State, training: Training, planned: Plan) -> EpochMetrics:
    """Take an epoch whose steps are done into the state."""
    started, steps = time.monotonic(), training.feed.steps
    chosen = held_out_top1(training, planned)
    total, classify, align, refine, right = (number / steps for number in state.sums)
    rate = learning_rate(training.config, state.epoch, 0, steps)
    seconds = round(state.seconds + time.monotonic() - started, 2)
    line = EpochMetrics(state.epoch + 1, rate, total, classify, align, refine, right, chosen, seconds)
    state.epoch, state.step, state.sums, state.seconds = line.epoch, 0, [0.0] * len(state.sums), 0.0
    state.history.append(line)
    if chosen > state.best_top1:
        state.best, state.best_top1, state.best_epoch = weights_of(training.modules), chosen, line.epoch
    return line


def held_out_top1(training: Training, planned: Plan) -> float:
    """Top-1 on whatever chooses the epoch; -1 where nothing does.

    Processes share the clips by whole batches, each the same as one process alone would score.
    """
    config, skeletons, own = training.config, planned.skeletons, training.share
    rows = skeletons.rows(config.split, TEST) if config.select_on_test else planned.split.held_out
    if not len(rows):
        return -1.0
    mine = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)][own.rank :: own.world]
    right = 0
    if mine:
        some = np.concatenate(mine)
        scores = score(training.model, training.packed, some, body=training.body, config=config)
        right = int((scores.argmax(1).numpy() == skeletons.split_labels(config.split)[some]).sum())
    return summed(torch.tensor(float(right), device=training.device)).item() / len(rows)


def _finish(training: Training, run: Run, out: Path, state: State) -> None:
    """The weights that the run keeps; metrics once more, a kill may have come between a state and its metrics."""
    state.finished = True
    if training.share.main:
        _write_metrics(out / "metrics.csv", state.history, run)
        save_weights(out, state.best or weights_of(training.modules), network_of(run))
    _log(out, kept_line(state, run))


@contextmanager
def _sole(out: Path) -> Iterator[None]:
    """No other training writes into the folder meanwhile; the main process sees to it for all."""
    with ExitStack() as held:
        from_main(lambda: _lock(out, held))
        yield


def _lock(out: Path, held: ExitStack) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        held.enter_context(locked(out / LOCK, wait=False))
    except BlockingIOError as error:
        busy = f"{error.strerror}, training this run; wait for it, or give another --out"
        raise BlockingIOError(errno.EWOULDBLOCK, busy, str(out)) from None


def _claim(out: Path, run: Run) -> None:
    """The folder is this run's from now on; ValueError with what differs where it is another's."""
    if (out / "run.json").exists():
        refuse_other(out, run)
    else:
        write_run(out, run)


class _Unwatched:
    """For the processes that say nothing."""

    def step(self, done: int, total: int) -> None:
        pass

    def epoch(self, line: EpochMetrics) -> None:
        pass


def _write_metrics(path: Path, history: list[EpochMetrics], run: Run) -> None:
    """A line an epoch; `kept` says on every line how the epoch is chosen."""
    if share().main:
        columns = [field.name for field in fields(EpochMetrics)]
        write_csv(path, [*columns, "kept"], ([*asdict(line).values(), run.selection] for line in history))


def _log(out: Path, *lines: str) -> None:
    if share().main:
        with (out / "log.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{printable(line)}\n" for line in lines)


def _say(line: str) -> None:
    if share().main:
        print(line, file=sys.stderr)
