"""Which caches a command means, and which clips are trained on and held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import TEST, Skeletons, Split
from mmcl.tests.features import write_cache
from mmcl.trainer.config import Config
from mmcl.trainer.data.samples import choose_cache, choose_caches, split_rows


def asked(data: Path, *caches: tuple[str, str]) -> dict[tuple[str, str], Path]:
    """A text cache for each (model, prompt)."""
    one = {"prompt_feature": np.ones((2, 1))}
    return {
        (model, prompt): write_cache(data, ["a", "b"], one, kind="text", model=model, prompt=prompt)
        for model, prompt in caches
    }


def test_the_only_cache_is_used_and_none_means_none(data: Path):
    folder = write_cache(data, ["a", "b"], {"feature": np.ones((2, 1))})
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
    folders = asked(data, ("org/blip", "holding-object"), ("org/blip", "describe"), ("tiny-llava", "describe"))
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


def test_each_prompt_is_a_cache_in_the_order_of_the_prompts(data: Path):
    folders = asked(data, ("org/blip", "head"), ("org/blip", "hand"), ("org/blip", "foot"))
    chosen = choose_caches(data, "org/blip", ["foot", "head"])
    assert chosen == (folders["org/blip", "foot"], folders["org/blip", "head"])
    assert choose_caches(data, None, ["hand"]) == (folders["org/blip", "hand"],)
    assert choose_caches(data, "none") == ()


def test_several_caches_without_a_prompt_are_refused_with_the_list(data: Path):
    folders = asked(data, ("org/blip", "head"), ("org/blip", "hand"))
    with pytest.raises(ValueError, match="--text: 2 caches fit; choose one by its key, or say --text none:") as caught:
        choose_caches(data, None)
    assert all(folder.name in str(caught.value) for folder in folders.values())


def test_prompts_that_can_not_be_are_refused(data: Path):
    """A prompt nobody was asked, one given twice, prompts of two models, and prompts of no features."""
    asked(data, ("org/blip", "head"), ("tiny-llava", "hand"))
    with pytest.raises(ValueError, match=r"--text --prompt foot: no such cache in .*; there are:\n  ") as caught:
        choose_caches(data, None, ["head", "foot"])
    assert "prompt head" in str(caught.value)
    with pytest.raises(ValueError, match="--prompt head: given twice"):
        choose_caches(data, None, ["head", "hand", "head"])
    with pytest.raises(ValueError, match="these prompts were asked of org/blip and tiny-llava; choose one with --text"):
        choose_caches(data, None, ["head", "hand"])
    with pytest.raises(ValueError, match=r"--prompt head: .* --text none says to use none"):
        choose_caches(data, "none", ["head"])


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
