"""Stage two: a skeleton network trained against cached features. Knows no raw file and no big model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...cache.files import write_csv
from ...cache.skeletons import TEST
from ..colearning.objective import Heads, Losses, Teachers, build_heads, losses, stacked, teachers_of
from ..config import Config
from ..data.samples import Features
from ..data.skeleton import Body, Packed, batch, body_of, draw, pack
from ..model import SkeletonClassifier
from ..plan import Plan
from ..report import epoch_line, kept_line, run_lines
from ..run import Run, refuse_other, write_run
from ..testing.scoring import score, top1
from .checkpoint import EpochMetrics, State, load_state, save_state, save_weights, weights_of
from .device import find_device

OnStep = Callable[[int, int], None]  # steps done, steps in all
OnEpoch = Callable[[EpochMetrics], None]


class Materials(NamedTuple):
    """The data set on the device."""

    packed: Packed
    labels: Tensor
    body: Body
    rgb: Features | None
    text: Features | None


@dataclass(frozen=True)
class Training:
    """What one epoch works on."""

    config: Config
    device: torch.device
    model: SkeletonClassifier
    heads: Heads
    optimizer: torch.optim.Optimizer
    materials: Materials

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model, "heads": self.heads}


def train(planned: Plan, out: Path, on_step: OnStep, on_epoch: OnEpoch) -> State:
    """Train, or go on where a killed run of the same plan stopped; the last good epoch is always on disk.

    Raises ValueError where `out` holds another run, RuntimeError where the loss stops being finite.
    """
    training, epochs = _set_up(planned), planned.run.config.epochs
    if (out / "run.json").exists():
        refuse_other(out, planned.run)
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_run(out, planned.run)
    state = load_state(out, training.modules, training.optimizer)
    finished = state.epoch == epochs and (out / "model.safetensors").exists()
    if not finished:
        _log(out, *run_lines(planned.run), *([f"resumed after epoch {state.epoch}"] if state.epoch else []))
    for epoch in range(state.epoch, epochs):
        line = _one_epoch(training, planned, epoch, on_step)
        _advance(state, line, training)
        save_state(out, state, weights_of(training.modules), training.optimizer)
        _write_metrics(out / "metrics.csv", state.history, planned.run)
        _log(out, epoch_line(line, planned.run))
        on_epoch(line)
    if not finished:
        _write_metrics(
            out / "metrics.csv", state.history, planned.run
        )  # a kill may have come between a state and its metrics
        save_weights(out, state.best or weights_of(training.modules))
        _log(out, kept_line(state, planned.run))
    return state


def learning_rate(config: Config, epoch: int) -> float:
    """Linear warm-up, then a tenth at each milestone."""
    if epoch < config.warmup:
        return config.lr * (epoch + 1) / config.warmup
    return config.lr * 0.1 ** sum(epoch >= milestone for milestone in config.milestones)


def epoch_order(rows: np.ndarray, config: Config, epoch: int) -> Tensor:
    """The epoch's clips in its own order, from seed and epoch alone."""
    order = torch.randperm(len(rows) * config.repeat, generator=_generator(config.seed, epoch))
    return torch.from_numpy(rows)[order % len(rows)]


def _generator(*seed: int) -> torch.Generator:
    """Random numbers that depend on nothing but these integers: the same after any resume."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def _set_up(planned: Plan) -> Training:
    run, config = planned.run, planned.run.config
    device = find_device()
    model, heads = _seeded(planned, config)
    model.to(device)
    heads.to(device)
    optimizer = torch.optim.SGD(
        [*model.parameters(), *heads.parameters()],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
    body = body_of(run.layout, run.slots, run.body_rule)
    return Training(config, device, model, heads, optimizer, _on_device(planned, body, device))


def _seeded(planned: Plan, config: Config) -> tuple[SkeletonClassifier, Heads]:
    """The network's start depends on the seed alone, not on which heads are there."""
    run = planned.run
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = run.build()
        torch.default_generator.manual_seed(config.seed)
        width = model.classifier.in_features
        return model, build_heads(planned.rgb, planned.text, feature_dim=width, classes=len(run.classes))


def _on_device(planned: Plan, body: Body, device: torch.device) -> Materials:
    def move(features: Features | None) -> Features | None:
        if features is None:
            return None
        return replace(features, values=features.values.to(device), present=features.present.to(device))

    labels = torch.tensor(planned.skeletons.split_labels(planned.run.config.split)).to(device)
    return Materials(pack(planned.skeletons).to(device), labels, body, move(planned.rgb), move(planned.text))


def _epoch(training: Training, rows: np.ndarray, epoch: int, on_step: OnStep) -> Tensor:
    """One pass; an incomplete last batch is left out, other clips each epoch. Mean losses and top-1, [5]."""
    config, order = training.config, epoch_order(rows, training.config, epoch)
    training.model.train()
    training.heads.train()
    for group in training.optimizer.param_groups:
        group["lr"] = learning_rate(config, epoch)
    steps = len(order) // config.batch
    sums = torch.zeros(5, device=training.device)
    for step in range(steps):
        chunk = order[step * config.batch : (step + 1) * config.batch]
        sums += _step(training, chunk, _generator(config.seed, epoch, step))
        on_step(epoch * steps + step + 1, config.epochs * steps)
    _refuse_diverged(training, sums, epoch)
    return (sums / steps).cpu()


def _refuse_diverged(training: Training, sums: Tensor, epoch: int) -> None:
    weights = [*training.model.parameters(), *training.heads.parameters()]
    if not torch.stack([tensor.isfinite().all() for tensor in (sums, *weights)]).all():
        kept = f"epoch {epoch} is kept in state.pt" if epoch else "nothing is kept"
        raise RuntimeError(
            f"epoch {epoch + 1}: the loss or a weight is not finite; {kept}; train with a smaller lr into another --out"
        )


def _step(training: Training, rows: Tensor, generator: torch.Generator) -> Tensor:
    config, things = training.config, training.materials
    draws = draw(generator, len(rows), config.window)
    rows = rows.to(training.device)
    outputs = training.model(batch(things.packed, rows, things.body, config, draws))
    teachers: Teachers = teachers_of(things.rgb, things.text, rows)
    labels = things.labels[rows]
    found: Losses = losses(outputs, labels, teachers, training.heads, config)
    training.optimizer.zero_grad()
    found.total.backward()
    training.optimizer.step()
    right = (outputs.scores.argmax(1) == labels).float().mean()
    return torch.cat([stacked(found), right[None]])


def _held_out_top1(training: Training, planned: Plan) -> float:
    """Top-1 on whatever chooses the epoch; -1 where nothing does."""
    config, skeletons = planned.run.config, planned.skeletons
    rows = skeletons.rows(config.split, TEST) if config.select_on_test else planned.split.held_out
    if not len(rows):
        return -1.0
    things = training.materials
    scores = score(training.model, things.packed, rows, body=things.body, config=config)
    return top1(scores, skeletons.split_labels(config.split)[rows])


def _one_epoch(training: Training, planned: Plan, epoch: int, on_step: OnStep) -> EpochMetrics:
    started = time.monotonic()
    means = _epoch(training, planned.split.train, epoch, on_step)
    chosen = _held_out_top1(training, planned)
    return _metrics(training, epoch, means, chosen, time.monotonic() - started)


def _metrics(training: Training, epoch: int, means: Tensor, chosen: float, seconds: float) -> EpochMetrics:
    rate = learning_rate(training.config, epoch)
    total, classify, align, refine, right = means.tolist()
    return EpochMetrics(epoch + 1, rate, total, classify, align, refine, right, chosen, round(seconds, 2))


def _advance(state: State, line: EpochMetrics, training: Training) -> None:
    state.epoch = line.epoch
    state.history.append(line)
    if line.held_out_top1 > state.best_top1:
        state.best, state.best_top1, state.best_epoch = weights_of(training.modules), line.held_out_top1, line.epoch


def _write_metrics(path: Path, history: list[EpochMetrics], run: Run) -> None:
    """A line an epoch; `kept` says on every line how the epoch is chosen."""
    columns = [field.name for field in fields(EpochMetrics)]
    write_csv(path, [*columns, "kept"], ([*asdict(line).values(), run.selection] for line in history))


def _log(out: Path, *lines: str) -> None:
    with (out / "log.txt").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
