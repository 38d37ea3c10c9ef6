"""One epoch: its steps, each over the global batch, from wherever the run stands in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..colearning.objective import Heads, Losses, losses, stacked
from ..config import Config
from ..data.skeleton import Body, Packed, batch
from ..model import SkeletonClassifier
from ..processes import Share
from .checkpoint import State, Watcher
from .compute import Network, outputs_of
from .diverged import bad_clips, loss_error, weight_error
from .gradients import Gradients
from .inputs import Feed, Inputs, ahead, epoch_order, inputs_of
from .memory import fitting_batch, is_short, too_large
from .reports import Report, Reports
from .schedule import learning_rate

NUMBERS = 7  # that a step reports: four losses, the share of right answers, whether to stop, whether to save
SAVE_EVERY = 600.0  # seconds after which the state is saved within an epoch


@dataclass(frozen=True)
class Training:
    """What steps work on, in one process of `share`; `packed` and `labels` are the whole data set on the device.

    `network` is the model, or its compiled form.
    """

    config: Config
    device: torch.device
    share: Share
    model: SkeletonClassifier
    heads: Heads
    network: Network
    optimizer: torch.optim.Optimizer
    gradients: Gradients
    packed: Packed
    labels: Tensor
    body: Body
    names: tuple[str, ...]
    feed: Feed

    @property
    def modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "heads": self.heads}


class Computed(NamedTuple):
    """What came of a forward pass of this process's clips: its share of the losses, scores [n, K], right answers."""

    found: Losses
    scores: Tensor
    right: Tensor


class Epoch:
    """An epoch under way. `keep` writes the state to the disk, where this process does that."""

    def __init__(self, training: Training, state: State, keep: Callable[[], None]) -> None:
        self._training, self._state, self._keep = training, state, keep
        self._order = epoch_order(training.feed.train, training.config, state.epoch)
        self._reports = Reports(training.device)
        self._saved = time.monotonic()
        self._started = self._saved - state.seconds

    def run(self, watch: Watcher, stop: Callable[[], bool]) -> bool:
        """The steps that are left; False where a process was asked to stop: all did, and the state is kept.

        Raises RuntimeError where a loss or a weight is not finite, or memory is too short, with what to do.
        """
        training, state, steps = self._training, self._state, self._training.feed.steps
        training.model.train()
        training.heads.train()
        make = partial(inputs_of, training.feed, self._order, state.epoch)
        for step, inputs in ahead(make, range(state.step, steps)):
            reports = self._step(step, inputs, stop())
            watch.step(state.epoch * steps + step + 1, training.config.epochs * steps)
            asked = any(report.stop for report in reports)
            if asked or any(report.due for report in reports):
                self._catch_up()
                self._keep()
                self._saved = time.monotonic()
            if asked:
                return False
        if any(report.stop for report in self._catch_up()):
            self._keep()
            return False
        return True

    def _step(self, step: int, inputs: Inputs, stop: bool) -> list[Report]:
        """One step of the optimizer; the reports that are due after it."""
        try:
            return self._taken(step, inputs.to(self._training.device), stop)
        except Exception as error:
            if not is_short(error):
                raise
        raise memory_error(self._training)  # out here, where what the failed step had computed is let go

    def _taken(self, step: int, inputs: Inputs, stop: bool) -> list[Report]:
        training, state = self._training, self._state
        rate = learning_rate(training.config, state.epoch, step, training.feed.steps)
        for group in training.optimizer.param_groups:
            group["lr"] = rate
        computed = forward_backward(training, inputs)
        due = training.share.main and time.monotonic() - self._saved > SAVE_EVERY
        asked = torch.tensor([float(stop), float(due)]).to(training.device, non_blocking=True)
        numbers = training.gradients.sum(torch.cat([stacked(computed.found), computed.right[None], asked]))
        self._reports.add(step, numbers, inputs, computed.scores)
        reports = self._read()
        training.gradients.clip(training.config.clip_grad)
        training.optimizer.step()
        state.step = step + 1
        return reports

    def _read(self, *, to_the_end: bool = False) -> list[Report]:
        reports = list(self._reports.read(to_the_end=to_the_end))
        for report in reports:
            if report.not_finite:
                raise self._diverged(report)
            self._state.sums = [a + b for a, b in zip(self._state.sums, report.numbers, strict=True)]
        return reports

    def _catch_up(self) -> list[Report]:
        """The last reports, and the state as it is after the last step.

        Raises RuntimeError where that has left a weight, or a statistic of the network, that is not finite.
        """
        reports = self._read(to_the_end=True)
        learned = [*self._training.model.state_dict().values(), *self._training.heads.parameters()]
        if not torch.stack([entry.isfinite().all() for entry in learned]).all():
            raise weight_error(self._state)
        self._state.seconds = time.monotonic() - self._started
        return reports

    def _diverged(self, report: Report) -> RuntimeError:
        training, config, inputs = self._training, self._training.config, report.inputs
        x = batch(training.packed, inputs.rows, training.body, config, inputs.draws)
        bad = bad_clips(x, training.labels[inputs.rows], report, config.batch)
        rows = self._order[report.step * config.batch :][: config.batch]
        return loss_error([training.names[row] for row in rows], bad, report, self._state)


def forward_backward(training: Training, inputs: Inputs) -> Computed:
    """This process's share of a step's losses, and their gradients, which `training.gradients` then holds."""
    config = training.config
    if config.compile != "off":
        torch.compiler.cudagraph_mark_step_begin()
    labels = training.labels[inputs.rows]
    x = batch(training.packed, inputs.rows, training.body, config, inputs.draws)
    outputs = outputs_of(training.network, x, inputs.bodies, config)
    found = losses(outputs, labels, inputs.teachers, training.heads, config, count=config.batch)
    training.gradients.clear()
    found.total.backward()
    scores = outputs.scores.detach().clone()  # a compiled network writes over its own
    return Computed(found, scores, (scores.argmax(1) == labels).sum() / config.batch)


def memory_error(training: Training) -> RuntimeError:
    """Which batch would fit, measured on the clips of most bodies; with several processes only that it does not."""
    config, device = training.config, training.device
    if training.share.world > 1:
        clips = len(range(config.batch)[training.share.rows(config.batch)])
        said = f"batch {config.batch}: its {clips} clips here do not fit into the memory of {device}"
        return RuntimeError(f"{said}; start more processes, or --set batch= smaller")
    return RuntimeError(too_large(config.batch, fitting_batch(partial(_trial, training), config.batch), device, config))


def _trial(training: Training, clips: int) -> None:
    """A forward and backward pass of so many clips, without the optimizer."""
    training.gradients.clear()
    smaller = replace(training.config, batch=clips)
    feed = replace(training.feed, config=smaller)
    fullest = feed.train[np.argsort(-feed.counts.numpy()[feed.train], kind="stable")]
    inputs = inputs_of(feed, np.resize(fullest, clips), 0, 0).to(training.device)
    forward_backward(replace(training, config=smaller, network=training.model, feed=feed), inputs)
