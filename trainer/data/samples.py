"""Which feature caches a training means, and which clips it trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.recipe import Recipe, read_recipe
from ...cache.skeletons import TRAIN, Skeletons
from ...cache.store import find_caches, is_merged
from ..config import Config

PREFIX = 4  # hex digits of a cache's key from which on it is taken for one


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out of the training split to choose the epoch on; int64."""

    train: np.ndarray
    held_out: np.ndarray


def choose_caches(data: Path, wanted: str | None, prompts: Sequence[str] = ()) -> tuple[Path, ...]:
    """The text caches that --text and any number of --prompt mean: one a prompt, of one model; () for "none".

    Raises ValueError where a prompt is given twice, or where its caches are those of several models.
    """
    if prompts and wanted == "none":
        raise ValueError(f"--prompt {prompts[0]}: chooses among text features, and --text none says to use none")
    if twice := [prompt for prompt in prompts if prompts.count(prompt) > 1]:
        raise ValueError(f"--prompt {twice[0]}: given twice")
    found = [choose_cache(data, "text", wanted, prompt) for prompt in prompts or (None,)]
    folders = tuple(folder for folder in found if folder is not None)
    if len(models := sorted({read_recipe(folder).model for folder in folders})) > 1:
        raise ValueError(f"--prompt: these prompts were asked of {' and '.join(models)}; choose one with --text")
    return folders


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
