"""What a reader must know of a run beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Config
from ..loop.start import Start, start_line
from ..run import Run
from .metrics import Metrics

# keys of the method; those of the data and its schedule are in trainer/configs
OPTIONS = ("backbone", "width", "loss", "schedule", "clip_grad", "lr_batch", "precision")
HEAD_OPTIONS = {
    "rgb": ("align_weight", "temperature", "temperature_learned", "align_input", "align_project", "align_same_class"),
    "text": ("refine_weight", "refine_features"),
}
SURE_ONE_SIDED = 0.05  # by chance no less often than this, all clips are right
HEADS = {"rgb": "FAM", "text": "FRM"}
CONTROLS = {
    "constant": "constant features: every clip is given the mean of the training clips, which says nothing of it",
    "shuffled": "shuffled features: every training clip is given another one's, which says nothing of it",
}


def notes_of(run: Run) -> list[str]:
    """How its epoch was chosen, what taught it, what it started from, and the options that are not the default."""
    notes = [f"epoch: {run.selection}", *(teacher_line(run, kind) for kind in HEADS)]
    if (control := CONTROLS.get(run.config.features)) and any(map(run.teachers, HEADS)):
        notes.append(f"CONTROL, {control}")
    if run.start:
        notes.append(start_line(Start(**run.start)))
    if options := changed_options(run):
        notes.append(f"options: {', '.join(options)}")
    return notes


def sure_note(metrics: Metrics) -> list[str]:
    """What a bootstrap can't say: how sure a result without a mistake, or without a hit, is."""
    if metrics.top1 not in (0.0, 1.0):
        return []
    sure = SURE_ONE_SIDED ** (1 / metrics.clips)
    said = f"at least {sure:.1%}" if metrics.top1 else f"at most {1 - sure:.1%}"
    which = "right" if metrics.top1 else "wrong"
    return [f"all {metrics.clips:,} clips are {which}, which a bootstrap can't judge; top-1 is {said} (95%, binomial)"]


def teacher_line(run: Run, kind: str) -> str:
    """The frozen networks behind FAM or FRM, and the clips that had no features."""
    if not (caches := run.teachers(kind)):
        return f"{HEADS[kind]}: none"
    missing = len(run.missing.get(kind, ()))
    gap = f"; {missing} of {run.train_clips} training clips had no features and were masked out" if missing else ""
    return f"{HEADS[kind]}: frozen {' + '.join(map(_cache, caches))}{gap}"


def changed_options(run: Run) -> list[str]:
    """The options of the method that are not the default, each with it."""
    used = [*OPTIONS, *(name for kind, names in HEAD_OPTIONS.items() if run.teachers(kind) for name in names)]
    pairs = [(name, getattr(run.config, name), getattr(Config(), name)) for name in used]
    return [f"{name} {_said(value)} (default {_said(usual)})" for name, value, usual in pairs if value != usual]


def _cache(cache: Mapping[str, Any]) -> str:
    settings = cache["settings"]
    asked = f", prompt {settings['prompt']}" if "prompt" in settings else ""
    return f"{settings.get('model', '?')}{asked}, cache {cache['key']}"


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "+".join(value) if isinstance(value, tuple) else str(value)
