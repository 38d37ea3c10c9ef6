"""Finished feature caches for tests, with the values that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import create_cache, write_part
from mmcl.trainer.data.features import Features, Source
from mmcl.trainer.data.moments import Moments


def write_cache(
    data: Path,
    names: Sequence[str],
    columns: Mapping[str, np.ndarray],
    *,
    kind: str = "rgb",
    failed: Sequence[str] = (),
    dataset: str = "acted",
    **settings: str,
) -> Path:
    """A finished feature cache with a row a name, in that order, in two parts."""
    folder = create_cache(data, Recipe(kind, dataset, {"model": "some/net", **settings}))
    for unit, part in enumerate(np.array_split(np.arange(len(names)), 2)):
        reasons = ["no frame could be read" if names[row] in failed else "" for row in part]
        write_part(folder, unit, [names[row] for row in part], reasons, {k: v[part] for k, v in columns.items()})
    merge(folder)
    return folder


def features_of(values: np.ndarray, present: np.ndarray | None = None, *, column: str = "feature") -> Features:
    """Features [clips, D] as they are trained on, without a file; all are present if nothing is said."""
    there = np.ones(len(values), bool) if present is None else present
    moments = Moments(values.shape[1])
    moments.add(values[there])
    source = Source(
        Recipe("rgb", "acted", {"model": "m"}), {column: values}, np.where(there, np.arange(len(values)), -1)
    )
    return Features((source,), there, (), moments.mean, moments.deviation)
