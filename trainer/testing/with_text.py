"""S_R of test clips: the scores refined by what the LLM said of them. The paper's rows with the LLM at test time."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache.recipe import Recipe, differences, read_recipe
from ...cache.skeletons import Skeletons
from ...cache.store import find_caches, open_cache, verify
from ...cache.words import few
from ..colearning.refinement import Refinement
from ..colearning.standardise import Standardise
from ..data.features import used_columns, values_of
from ..loop.checkpoint import read_weights
from ..run import Run

HEADS = "heads.safetensors"
IMAGES = "person_images"  # the key of the person images in a recipe's settings: another data set's are others
REMADE = "move it and model.safetensors away and run the same `mmcl train` again, it makes both anew"
NAMED = 4  # clips that a message names


def refined_scores(
    folder: Path, run: Run, scores: np.ndarray, skeletons: Skeletons, rows: np.ndarray, data: Path
) -> tuple[np.ndarray, list[str]]:
    """S_R [n, K] of the clips in `rows` of the tested data set, whose S_M are `scores`, and what to know of it.

    FRM is read from the run's heads.safetensors, the text features from the caches of the folder `data` that were made
    as those of the training. A clip whose text feature failed keeps S_M. Raises FileNotFoundError or ValueError where
    the run has no FRM, where its heads or such a cache are missing, or where a row is damaged.
    """
    refuse_no_heads(folder, run)
    head, names = _read_head(folder, run), [skeletons.names[row] for row in rows]
    if run.config.features == "constant":
        text, present, notes = _mean_text(folder, run, head, len(rows))
    else:
        text, present, notes = _text_of(run, head.standardise.dim, names, skeletons.dataset, data)
    given = torch.from_numpy(np.asarray(scores, np.float32))
    with torch.inference_mode():
        refined = head(given, torch.from_numpy(text)).numpy()
    return np.where(present[:, None], refined, given.numpy()), ["scores: S_R, S_M refined by the run's FRM", *notes]


def refuse_no_heads(folder: Path, run: Run) -> None:
    """ValueError or FileNotFoundError where a run has no FRM, or lacks the file of it; nothing is read."""
    if not run.text:
        raise ValueError(f"{folder}: trained without FRM, so no LLM can refine its scores; test it without --with-text")
    if not (path := folder / HEADS).exists():
        raise FileNotFoundError(f"{path}: not there, and S_R needs its FRM; bring it back, or test without --with-text")


def _read_head(folder: Path, run: Run) -> Refinement:
    """FRM as it was trained, on the CPU."""
    path = folder / HEADS
    entries = read_weights(path, REMADE).items()
    own = {name.removeprefix("refine."): value for name, value in entries if name.startswith("refine.")}
    try:
        head = Refinement(Standardise(len(own["standardise.mean"])), len(run.classes))
        head.load_state_dict(own)
    except (KeyError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split())[:160]
        raise ValueError(f"{path}: no FRM of {len(run.classes)} classes ({said}); {REMADE}") from error
    return head.eval()


def _mean_text(folder: Path, run: Run, head: Refinement, clips: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """What the control of constant features trained on: the mean of the training clips, which FRM holds."""
    if "answer_ids" in run.config.refine_features:
        raise ValueError(f"{folder}: trained on the mean of token ids, which is not kept; test it without --with-text")
    text = head.standardise.mean.expand(clips, -1).numpy()
    said = "CONTROL: FRM is given the mean of the training clips, as in training; no text cache is read"
    return text, np.ones(clips, bool), [said]


def _text_of(
    run: Run, dim: int, names: Sequence[str], dataset: str, data: Path
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The text features [n, D] of clips, which of them have some [n], and what to know of their caches."""
    notes, found, present = list[str](), list[np.ndarray](), np.ones(len(names), bool)
    for cache in run.text:
        folder = _choose(cache, dataset, data)
        values, there = _read(folder, cache, names)
        found.append(values)
        present &= there
        notes.append(f"text features: {read_recipe(folder)}")
        if dataset != cache["dataset"]:
            notes += _compare_images(run, cache, folder, data)
    text = np.concatenate(found, axis=1)
    if text.shape[1] != dim:
        raise ValueError(f"{data}: its text features have {text.shape[1]} numbers a clip, FRM was trained on {dim}")
    if not present.all():
        notes.append(f"{(~present).sum():,} of {len(names):,} clips have no text features and keep S_M")
    if run.config.features == "shuffled":
        notes.append("CONTROL: FRM was trained on the features of other clips; here each clip has its own")
    return text, present, notes


def _choose(cache: Mapping[str, Any], dataset: str, data: Path) -> Path:
    """The tested data set's text cache that was made as `cache`; of another data set, from its own person images."""
    own = dataset == cache["dataset"]
    known = {folder: read_recipe(folder) for folder in find_caches(data, "text")}
    known = {folder: recipe for folder, recipe in known.items() if recipe.dataset == dataset}
    fits = [folder for folder, recipe in known.items() if not _differing(recipe, cache, own=own)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        listed = ", ".join(folder.name for folder in fits)
        raise ValueError(f"{data}: {len(fits)} text caches fit ({listed}); move all but one out of it")
    near = [recipe for recipe in known.values() if (recipe.model, recipe.prompt) == _asked(cache)]
    other = "".join(f"\n{recipe.key} differs:\n{_differing(recipe, cache, own=own)}" for recipe in near)
    model, _ = _asked(cache)
    where = "" if "/" in model else f", {model} with its path"  # a hub's id has an owner; a folder goes by its name
    mend = f"make it with `{_command(cache, data)}`{where}"
    raise ValueError(f"{data}: no text cache that was made as the run's {cache['key']}; {mend}{other}")


def _differing(found: Recipe, cache: Mapping[str, Any], *, own: bool) -> str:
    """The settings in which a cache was made otherwise than the one of the training, one a line; empty: in none."""
    settings = dict(cache["settings"])
    if not own:
        settings[IMAGES] = found.settings.get(IMAGES, "-")
    return differences(found, Recipe(found.kind, found.dataset, settings))


def _asked(cache: Mapping[str, Any]) -> tuple[str, str]:
    """Model and prompt."""
    recipe = Recipe("text", cache["dataset"], cache["settings"])
    return recipe.model, recipe.prompt


def _command(cache: Mapping[str, Any], data: Path) -> str:
    """What makes such a cache."""
    model, prompt = _asked(cache)
    videos = [] if find_caches(data, "person-images") else ["--videos", "VIDEOS"]
    asked = [] if prompt == "-" else ["--prompt", prompt]
    return shlex.join(["mmcl", "extract-features", str(data), *videos, "--llm", model, *asked])


def _read(folder: Path, cache: Mapping[str, Any], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The columns that FRM was trained on, float32 [n, D] with zeros in failed rows, and which are there."""
    rows = open_cache(folder)
    if absent := [name for name in names if name not in rows.row_of]:
        raise ValueError(f"{folder}: no row for {_clips(absent)}; run the same extraction again, it adds them")
    wanted = cache.get("columns", ())
    columns = used_columns(rows, wanted, "text")
    if lacking := set(wanted) - set(columns):
        raise ValueError(f"{folder}: no column {', '.join(sorted(lacking))}, which FRM was trained on; extract again")
    if damaged := set(verify(folder)) & set(names):
        raise ValueError(f"{folder}: damaged rows for {_clips(sorted(damaged))}; move it away and extract again")
    there = np.array([name not in rows.failures for name in names])
    at = np.array([rows.row_of[name] for name in names])
    values = np.zeros((len(names), sum(column.shape[1] for column in columns.values())), np.float32)
    values[there] = values_of(columns, at[there])
    if not np.isfinite(values).all():
        odd = [name for name, row in zip(names, values, strict=True) if not np.isfinite(row).all()]
        raise ValueError(f"{folder}: NaN or Inf in {_clips(odd)}; extract again")
    return values, there


def _clips(names: Sequence[str]) -> str:
    return f"{len(names):,} test clip{'s' * (len(names) > 1)} ({few(names, NAMED)})"


def _compare_images(run: Run, cache: Mapping[str, Any], folder: Path, data: Path) -> list[str]:
    """How the person images that the LLM saw differ from those of the training; ValueError where their layout does."""
    seen = _images(data, read_recipe(folder).settings)
    trained = _images(Path(run.data), cache["settings"])
    if seen is None or trained is None:
        return ["person images: whether they were made as those of the training is not known any more"]
    if seen.settings.get("layout") != trained.settings.get("layout"):
        raise ValueError(
            f"{folder}: made from other person images than the training's\n{differences(seen, trained)}\n"
            "extract with the prompt as it was in training"
        )
    skipped = ("videos",)  # where they lie, not what they show
    names = sorted((seen.settings.keys() | trained.settings.keys()) - set(skipped))
    other = [
        f"{name} {trained.settings.get(name, '-')} in training, {seen.settings.get(name, '-')} here"
        for name in names
        if seen.settings.get(name) != trained.settings.get(name)
    ]
    return [f"person images: {'; '.join(other)}"] if other else []


def _images(data: Path, settings: Mapping[str, Any]) -> Recipe | None:
    try:
        return read_recipe(data / "person-images" / str(settings.get(IMAGES, "-")))
    except (OSError, ValueError):
        return None
