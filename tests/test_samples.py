"""Skeletons, features and splits joined by name; gaps and strangers refused before the first epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, Split, read_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.trainer.config import Config
from mmcl.trainer.data.samples import choose_cache, load_features, split_rows


def cache(
    data: Path,
    names: Sequence[str],
    columns: dict[str, np.ndarray],
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


@pytest.fixture
def skeletons(data: Path) -> Skeletons:
    return read_skeletons(data / "skeletons.h5")


@pytest.fixture
def train_rows(skeletons: Skeletons) -> np.ndarray:
    return skeletons.rows("xsub", TRAIN)


def numbered(skeletons: Skeletons, names: Sequence[str]) -> np.ndarray:
    """Each clip's feature says which row of the skeleton cache it belongs to."""
    return np.array([[skeletons.names.index(name), 1.0] for name in names], np.float32)


def test_features_find_their_clips_whatever_the_order(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = np.random.default_rng(0).permutation(skeletons.names).tolist()
    folder = cache(data, names, {"feature": numbered(skeletons, names)})
    found = load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)
    assert found.values[train_rows, 0].tolist() == train_rows.tolist()
    assert found.values.shape == (len(names), 2) and found.values.dtype == torch.float32
    assert np.flatnonzero(found.present.numpy()).tolist() == train_rows.tolist()
    assert found.missing == () and found.recipe.model == "some/net"


def test_nothing_is_known_of_clips_that_are_not_trained_on(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """The cache has their features; the trainer does not take them."""
    names = list(skeletons.names)
    folder = cache(data, names, {"feature": numbered(skeletons, names) + 1})
    found = load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)
    others = np.setdiff1d(np.arange(len(names)), train_rows)
    assert len(others) and not found.values[others].any() and not found.present[others].any()


def test_text_features_are_what_the_cache_has_of_prompt_answer_and_probabilities(
    data: Path, skeletons: Skeletons, train_rows: np.ndarray
):
    names = list(skeletons.names)
    ones = np.ones((len(names), 2), np.float16)
    columns = {"probabilities": 3 * ones, "prompt_feature": ones, "answer_feature": 2 * ones}
    folder = cache(data, names, columns, kind="text", prompt="holding-object")
    found = load_features(folder, "text", skeletons, train_rows, allow_missing=False)
    assert found.values[train_rows[0]].tolist() == [1, 1, 2, 2, 3, 3] and found.values.dtype == torch.float32
    with pytest.raises(ValueError, match="none of the columns feature; is it a rgb cache"):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)


def test_a_clip_without_a_row_is_refused_by_name(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """Also where missing features are allowed: that is for failures, not for a cache that is not complete."""
    gone = skeletons.names[train_rows[3]]
    names = [name for name in skeletons.names if name != gone]
    folder = cache(data, names, {"feature": numbered(skeletons, names)})
    for allow in (False, True):
        with pytest.raises(ValueError, match=rf"no row for 1 training clips \({gone}\); extract again"):
            load_features(folder, "rgb", skeletons, train_rows, allow_missing=allow)


def test_a_test_clip_without_a_row_does_not_matter(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = [skeletons.names[row] for row in train_rows]
    folder = cache(data, names, {"feature": numbered(skeletons, names)})
    assert load_features(folder, "rgb", skeletons, train_rows, allow_missing=False).missing == ()


def test_failed_rows_are_refused_and_listed_unless_allowed(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = list(skeletons.names)
    failed = [names[row] for row in train_rows[:10]]
    values = numbered(skeletons, names)
    values[train_rows[:10]] = np.nan
    folder = cache(data, names, {"feature": values}, failed=failed)
    listed = ", ".join(failed[:8])
    mend = "--retry-failed, or train without them: --allow-missing"
    wanted = rf"failed rows for 10 training clips \({listed} and 2 more\); .*{mend}"
    with pytest.raises(ValueError, match=wanted):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)
    found = load_features(folder, "rgb", skeletons, train_rows, allow_missing=True)
    assert found.missing == tuple(failed)
    assert found.present[train_rows].tolist() == [False] * 10 + [True] * (len(train_rows) - 10)


def test_a_cache_in_which_all_failed_is_refused(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = list(skeletons.names)
    folder = cache(data, names, {"feature": numbered(skeletons, names)}, failed=names)
    with pytest.raises(ValueError, match="not one training clip has features; say --rgb none"):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_are_refused_by_name(data: Path, skeletons: Skeletons, train_rows: np.ndarray, value: float):
    names = list(skeletons.names)
    values = numbered(skeletons, names)
    values[train_rows[2], 1] = value
    folder = cache(data, names, {"feature": values})
    with pytest.raises(ValueError, match=rf"NaN or Inf in 1 training clips \({names[train_rows[2]]}\)"):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=True)


def test_another_data_sets_cache_is_refused(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = list(skeletons.names)
    folder = cache(data, names, {"feature": numbered(skeletons, names)}, dataset="nw-ucla")
    with pytest.raises(ValueError, match="made for nw-ucla, these skeletons are acted"):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)


def test_an_unfinished_cache_is_refused(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    folder = create_cache(data, Recipe("rgb", "acted", {"model": "m"}))
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again"):
        load_features(folder, "rgb", skeletons, train_rows, allow_missing=False)


def test_the_only_cache_is_used_and_none_means_none(data: Path):
    folder = cache(data, ["a", "b"], {"feature": np.ones((2, 1))})
    assert choose_cache(data, "rgb", None) == folder
    assert choose_cache(data, "rgb", "none") is None


def test_no_cache_at_all_is_refused_unless_none_is_said(data: Path):
    for wanted in (None, "some/net"):
        with pytest.raises(
            ValueError, match="no text cache; make one with `mmcl extract-features`, or say --text none"
        ):
            choose_cache(data, "text", wanted)
    assert choose_cache(data, "text", "none") is None


def test_several_caches_are_refused_with_the_list_and_chosen_by_key_model_or_prompt(data: Path):
    two = np.ones((2, 1))
    folders = {
        (model, prompt): cache(data, ["a", "b"], {"prompt_feature": two}, kind="text", model=model, prompt=prompt)
        for model, prompt in (("org/blip", "holding-object"), ("org/blip", "describe"), ("tiny-llava", "describe"))
    }
    blip = folders["org/blip", "describe"]
    with pytest.raises(ValueError, match="--text: 3 caches fit; choose one by its key, or say --text none:") as caught:
        choose_cache(data, "text", None)
    for (model, prompt), folder in folders.items():
        assert f"{folder.name}  {model}, prompt {prompt}" in str(caught.value)
    assert choose_cache(data, "text", blip.name) == blip
    assert choose_cache(data, "text", "org/blip", "describe") == blip
    assert choose_cache(data, "text", None, "holding-object") == folders["org/blip", "holding-object"]
    assert choose_cache(data, "text", "/models/tiny-llava") == folders["tiny-llava", "describe"]
    with pytest.raises(ValueError, match="--text: 2 caches fit"):
        choose_cache(data, "text", "org/blip")
    with pytest.raises(ValueError, match=r"--text org/other --prompt describe: no such cache in .*; there are:\n  "):
        choose_cache(data, "text", "org/other", "describe")


def test_validation_holds_out_the_subjects_that_are_named(skeletons: Skeletons, train_rows: np.ndarray):
    split = split_rows(skeletons, Config(validation="3"))
    assert set(skeletons.columns["subject"][split.held_out]) == {3}
    assert set(skeletons.columns["subject"][split.train]) == {1}
    assert sorted([*split.train, *split.held_out]) == train_rows.tolist()
    assert not np.isin(skeletons.rows("xsub", TEST), split.held_out).any()


def test_validation_by_a_share_holds_out_whole_subjects_by_the_seed(skeletons: Skeletons):
    found = [split_rows(skeletons, Config(split="given", validation="0.34", seed=seed)) for seed in range(8)]
    held = [set(skeletons.columns["subject"][split.held_out].tolist()) for split in found]
    assert all(len(subjects) == 1 for subjects in held) and len(set(map(frozenset, held))) > 1
    again = split_rows(skeletons, Config(split="given", validation="0.34", seed=0))
    np.testing.assert_array_equal(again.held_out, found[0].held_out)


def test_without_validation_nothing_is_held_out(skeletons: Skeletons, train_rows: np.ndarray):
    split = split_rows(skeletons, Config())
    assert split.train.tolist() == train_rows.tolist() and not len(split.held_out)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("2", r"no training subject \[2\]; there are \[1, 3\]"),
        ("1,3", "holds out 12 of 12 training clips"),
        ("0.9", "holds out 12 of 12 training clips"),
        ("some", r"wanted subjects \(3,7\) or a share of them \(0\.2\)"),
        ("1.5", r"wanted subjects \(3,7\) or a share of them"),
        ("-0.5", r"wanted subjects \(3,7\) or a share of them"),
    ],
)
def test_a_validation_that_cannot_be_is_refused(skeletons: Skeletons, validation: str, message: str):
    with pytest.raises(ValueError, match=f"--validation {validation}: {message}"):
        split_rows(skeletons, Config(validation=validation))


def test_data_without_subjects_cannot_hold_any_out(skeletons: Skeletons):
    with pytest.raises(ValueError, match=r"--validation 0\.2: acted does not say who its subjects are"):
        split_rows(replace(skeletons, columns={}), Config(validation="0.2"))


def test_an_unknown_split_and_an_empty_one_are_refused(skeletons: Skeletons):
    with pytest.raises(ValueError, match="acted has no split 'xview'; it has given, xsub"):
        split_rows(skeletons, Config(split="xview"))
    testing = {name: Split(np.full_like(split.sides, TEST)) for name, split in skeletons.splits.items()}
    with pytest.raises(ValueError, match="acted: split xsub has no training clips"):
        split_rows(replace(skeletons, splits=testing), Config())
