"""What training a run took beside its network: teachers, their caches, the heads, and time; as far as it is known."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ...cache.cost import CacheCost, cost_of
from ..run import Run

STATISTICS = ".standardise."  # in the names of heads' entries that are no parameters


@dataclass(frozen=True)
class TeacherCost:
    """One feature cache that a run was trained with; None is what nobody knows any more.

    `parameters` are those of the frozen network, `seconds` what the device worked for all `clips` of the cache.
    `clip_bytes` are the features of a clip that training reads, `cache_bytes` the whole file.
    """

    kind: str
    name: str
    parameters: int | None = None
    seconds: float | None = None
    clips: int | None = None
    clip_bytes: int | None = None
    cache_bytes: int | None = None


def teachers_of(run: Run) -> tuple[TeacherCost, ...]:
    """The cost of each feature cache of a run, RGB first; the caches need not be there any more."""
    return tuple(_teacher(run, kind, cache) for kind in ("rgb", "text") for cache in run.teachers(kind))


def _teacher(run: Run, kind: str, cache: Mapping[str, Any]) -> TeacherCost:
    settings = cache["settings"]
    asked = f", prompt {settings['prompt']}" if "prompt" in settings else ""
    name = f"{settings.get('model', '?')}{asked}"
    if (known := _recorded(run, cache) or _lying_there(run, kind, cache)) is None:
        return TeacherCost(kind, name)
    return TeacherCost(kind, name, known.parameters, known.seconds, known.rows, known.clip_bytes, known.file_bytes)


def _recorded(run: Run, cache: Mapping[str, Any]) -> CacheCost | None:
    """What the run noted of the cache when it was trained; runs of older versions noted nothing."""
    try:
        found = CacheCost(**run.costs[cache["key"]])
    except (KeyError, TypeError):
        return None
    return found if all(number is None or type(number) in (int, float) for number in found) else None


def _lying_there(run: Run, kind: str, cache: Mapping[str, Any]) -> CacheCost | None:
    try:
        return cost_of(Path(run.data) / kind / str(cache["key"]), cache.get("columns", ()))
    except (OSError, ValueError):
        return None


def heads_parameters(folder: Path, run: Run) -> int | None:
    """The parameters of FAM and FRM, by the header of heads.safetensors alone; their features' statistics are none."""
    if not (run.rgb or run.text):
        return 0
    try:
        with safe_open(folder / "heads.safetensors", "pt") as file:
            names = [name for name in file.keys() if STATISTICS not in name]  # noqa: SIM118 - a file is no dict
            return sum(prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError):
        return None


def training_seconds(folder: Path) -> float | None:
    """The seconds of all epochs in metrics.csv."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            return sum(float(line["seconds"]) for line in csv.DictReader(file))
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return None
