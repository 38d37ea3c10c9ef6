"""Joins skeletons, labels and features by name, and refuses gaps before the first epoch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...cache.recipe import Recipe, read_recipe
from ...cache.skeletons import TRAIN, Skeletons
from ...cache.store import Rows, find_caches, is_merged, open_cache, verify
from ...cache.words import few
from ..config import Config

PREFIX = 4  # hex digits of a cache's key from which on it is taken for one
COLUMNS = {"rgb": ("feature",), "text": ("prompt_feature", "answer_feature", "probabilities")}


@dataclass(frozen=True)
class Features:
    """One modality's features of all clips of a data set, in the skeleton cache's order.

    `values` [clips, D]; `present` [clips] is False where the cache has a failed row, or the clip is not trained on.
    """

    recipe: Recipe
    values: Tensor
    present: Tensor
    missing: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Eight hex digits that change with any value: a cache's rows may be made anew under one key."""
        return f"{zlib.crc32(self.values.numpy().tobytes()):08x}"


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out of the training split to choose the epoch on; int64."""

    train: np.ndarray
    held_out: np.ndarray


def choose_cache(data: Path, kind: str, wanted: str | None, prompt: str | None = None) -> Path | None:
    """The cache that --rgb or --text means: a key, a model, or None where "none" was said.

    Nothing said: the only cache of the kind. Several, or none at all, is a ValueError with the list.
    """
    if wanted == "none":
        return None
    found = [(folder, read_recipe(folder)) for folder in find_caches(data, kind)]
    fits = [folder for folder, recipe in found if _fits(recipe, wanted, prompt)]
    if len(fits) == 1:
        return fits[0]
    shown = [(folder, recipe) for folder, recipe in found if folder in fits] or found
    listing = "".join(f"\n  {recipe}{'' if is_merged(folder) else '  (not finished)'}" for folder, recipe in shown)
    asked = " ".join(part for part in (wanted, f"--prompt {prompt}" if prompt else "") if part)
    if fits:
        raise ValueError(f"--{kind}: {len(fits)} caches fit; choose one by its key, or say --{kind} none:{listing}")
    if found:
        raise ValueError(f"--{kind} {asked}: no such cache in {data}; there are:{listing}")
    raise ValueError(f"{data}: no {kind} cache; make one with `mmcl extract-features`, or say --{kind} none")


def _fits(recipe: Recipe, wanted: str | None, prompt: str | None) -> bool:
    named = wanted is not None and (wanted == recipe.model or Path(wanted).name == recipe.model)
    model = wanted is None or named or (len(wanted) >= PREFIX and recipe.key.startswith(wanted))
    return model and (prompt is None or prompt == recipe.prompt)


def split_rows(skeletons: Skeletons, config: Config) -> Split:
    """The split's training clips, less those that `config.validation` holds out."""
    rows = skeletons.rows(config.split, TRAIN)
    if not len(rows):
        raise ValueError(f"{skeletons.dataset}: split {config.split} has no training clips")
    held = np.isin(rows, _held_out(skeletons, rows, config)) if config.validation else np.zeros(len(rows), bool)
    if config.validation and (held.all() or not held.any()):
        raise ValueError(f"--validation {config.validation}: holds out {held.sum()} of {len(rows)} training clips")
    return Split(rows[~held], rows[held])


def _held_out(skeletons: Skeletons, rows: np.ndarray, config: Config) -> np.ndarray:
    if "subject" not in skeletons.columns:
        raise ValueError(f"--validation {config.validation}: {skeletons.dataset} does not say who its subjects are")
    subjects = skeletons.columns["subject"][rows]
    there = np.unique(subjects[subjects >= 0])  # -1 stands for nobody knows
    return rows[np.isin(subjects, _chosen_subjects(config, there))]


def _chosen_subjects(config: Config, there: np.ndarray) -> np.ndarray:
    text = config.validation
    try:
        if "." in text:
            count = max(1, round(_share(text) * len(there)))
            return np.random.default_rng(config.seed).permutation(there)[:count]
        wanted = np.array([int(part) for part in text.split(",")])
    except ValueError:
        raise ValueError(f"--validation {text}: wanted subjects (3,7) or a share of them (0.2)") from None
    if unknown := sorted(set(wanted.tolist()) - set(there.tolist())):
        raise ValueError(f"--validation {text}: no training subject {unknown}; there are {there.tolist()}")
    return wanted


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise ValueError(text)
    return share


def load_features(folder: Path, kind: str, skeletons: Skeletons, rows: np.ndarray, *, allow_missing: bool) -> Features:
    """The features of the clips in `rows`, joined by name.

    Raises ValueError for another data set's cache, for a damaged row, for a name without a row, for a value that is
    not finite, and, unless `allow_missing`, for failed rows; it names the clips.
    """
    cache = open_cache(folder)
    _same_dataset(cache, skeletons)
    names = [skeletons.names[row] for row in rows]
    damaged = set(verify(folder))
    mend = "move the folder away and extract again; `mmcl cache verify` names all such rows"
    _refuse(folder, [name for name in names if name in damaged], "damaged rows for", mend)
    _refuse(folder, [name for name in names if name not in cache.row_of], "no row for", "extract again: it adds them")
    failed = tuple(name for name in names if name in cache.failures)
    if not allow_missing:
        _refuse(
            folder,
            failed,
            "failed rows for",
            "mend the videos and extract with --retry-failed, or train without them: --allow-missing",
        )
    values = _values(cache, kind, [cache.row_of[name] for name in names])
    present = np.array([name not in cache.failures for name in names])
    if not np.isfinite(values[present]).all():
        bad = [name for name, row, ok in zip(names, values, present, strict=True) if ok and not np.isfinite(row).all()]
        _refuse(folder, bad, "NaN or Inf in", "the encoder's dtype may be too small; extract again")
    if not present.any():
        raise ValueError(f"{folder}: not one training clip has features; say --{kind} none")
    return Features(
        cache.recipe,
        _scatter(values, rows, len(skeletons.names)),
        _scatter(present, rows, len(skeletons.names)),
        failed,
    )


def _scatter(found: np.ndarray, rows: np.ndarray, clips: int) -> Tensor:
    everywhere = np.zeros((clips, *found.shape[1:]), found.dtype)
    everywhere[rows] = found
    return torch.from_numpy(everywhere)


def _values(cache: Rows, kind: str, rows: list[int]) -> np.ndarray:
    columns = [cache.array(column)[rows].astype(np.float32) for column in COLUMNS[kind] if column in cache.columns]
    if not columns:
        raise ValueError(f"{cache.folder}: none of the columns {', '.join(COLUMNS[kind])}; is it a {kind} cache?")
    return np.concatenate(columns, axis=1)


def _same_dataset(cache: Rows, skeletons: Skeletons) -> None:
    if cache.recipe.dataset != skeletons.dataset:
        raise ValueError(f"{cache.folder}: made for {cache.recipe.dataset}, these skeletons are {skeletons.dataset}")


def _refuse(folder: Path, names: Sequence[str], what: str, mend: str) -> None:
    if names:
        raise ValueError(f"{folder}: {what} {len(names)} training clips ({few(names, 8)}); {mend}")
