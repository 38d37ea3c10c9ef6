"""What `mmcl train` and `mmcl ablate` show of a run: what it is before it starts, and the epoch that was kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache.skeletons import TEST
from .config import Config
from .loop.checkpoint import State
from .loop.schedule import base_rate
from .loop.start import Start, start_line
from .processes import share
from .run import Run
from .testing.notes import HEADS

if TYPE_CHECKING:  # training says its lines without loading what evaluation draws with
    import torch
    from rich.console import Console

    from .loop.checkpoint import Watcher
    from .plan import Plan


def run_lines(run: Run) -> list[str]:
    """What is going to be trained on what."""
    config = run.config
    held = f", {run.held_out_clips} held out" if run.held_out_clips else ""
    if run.held_out_subjects:
        held += f" (subjects {', '.join(map(str, run.held_out_subjects))})"
    clips = f"{run.train_clips} training clips{held}, {len(run.classes)} classes"
    network = f"{config.backbone}, width {config.width}, {config.window} frames, {run.slots} bodies"
    schedule = f"batch {config.batch}, {config.epochs} epochs, seed {config.seed}; keeps the {run.selection}"
    lines = [f"{run.dataset} {config.split}, {config.stream}: {clips}", f"{network}; {schedule}", _numbers_line(config)]
    if run.start:
        lines.append(start_line(Start(**run.start)))
    return [*lines, *(_teacher_line(run, kind) for kind in HEADS)]


def _numbers_line(config: Config) -> str:
    """The learning rate, scaled where that was asked for, its schedule, and how the network computes."""
    rate = f"lr {base_rate(config):g}"
    if config.lr_batch:
        rate += f" (lr {config.lr:g} for a batch of {config.lr_batch}, scaled to {config.batch})"
    falls = f"a tenth at {', '.join(map(str, config.milestones))}" if config.milestones else "constant"
    fall = "cosine to 0" if config.schedule == "cosine" else falls
    clipped = f", gradients clipped to {config.clip_grad:g}" if config.clip_grad else ""
    compiled = "" if config.compile == "off" else f", compiled ({config.compile})"
    return f"{rate}, warm-up {config.warmup}, {fall}{clipped}; {config.precision}{compiled}"


def _teacher_line(run: Run, kind: str) -> str:
    """What teaches FAM or FRM, and the clips that have no features."""
    caches = [f"{_model(cache)} ({cache['key']})" for cache in run.teachers(kind)]
    if not caches:
        return f"{HEADS[kind]}: none"
    control = "" if run.config.features == "real" else f"; CONTROL: {run.config.features} features"
    missing = len(run.missing.get(kind, ()))
    masked = f"; {missing} clips without features train on the classification loss only" if missing else ""
    return f"{HEADS[kind]}: {', '.join(caches)}{control}{masked}"


def _model(cache: Mapping[str, Any]) -> str:
    settings = cache["settings"]
    return f"{settings.get('model')}{' ' + settings['prompt'] if 'prompt' in settings else ''}"


def plan_lines(planned: Plan, device: torch.device) -> list[str]:
    """The same, what it computes on, and what evaluation will say of the split."""
    config, world = planned.run.config, share().world
    share_of = f", {config.batch / world:g} clips of a batch each" if world > 1 else ""
    lines = [*run_lines(planned.run), f"{world} process{'es' if world > 1 else ''} on {device.type}{share_of}"]
    if not len(planned.skeletons.rows(config.split, TEST)):
        lines.append(f"split {config.split} has no test clips: `mmcl evaluate` will refuse this run")
    return [*lines, *_schedule_notes(config)]


def _schedule_notes(config: Config) -> list[str]:
    """What of the schedule never comes in so few epochs."""
    if config.warmup >= config.epochs:
        return [f"note: all {config.epochs} epochs are warm-up; --set warmup= to fewer"]
    if config.schedule == "step" and config.milestones and min(config.milestones) >= config.epochs:
        return [f"note: the rate never falls, {config.epochs} epochs end before; --set milestones= to earlier ones"]
    return []


def kept_line(state: State, run: Run) -> str:
    """Which epoch's weights the run keeps, and why."""
    if state.finished and not state.history:
        return f"kept the {run.selection}"
    return f"kept epoch {state.best_epoch if state.best else state.epoch} ({run.selection})"


@contextmanager
def watched(console: Console, track: Sequence[str], run: Run, out: Path) -> Iterator[Watcher]:
    """A Watcher that shows a run while it trains, and logs it with the named trackers."""
    from .loop.tracking import both, tracker
    from .loop.view import view

    with tracker(track, out, run) as tracked, view(console, run) as shown:
        yield both(shown, tracked)
