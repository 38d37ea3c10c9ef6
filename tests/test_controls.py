"""The controls: what a training gains by features that say nothing of the clip they are given with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.skeletons import TRAIN, Skeletons
from mmcl.tests.features import write_cache
from mmcl.trainer.colearning.objective import build_heads
from mmcl.trainer.config import Config
from mmcl.trainer.data.features import Features, load_features
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.run import read_run, write_run

TINY = Config(split="xsub", width=8, window=16, batch=4)


def load(skeletons: Skeletons, *folders: Path, kind: str = "rgb", features: str = "real", **more: object) -> Features:
    config = replace(TINY, features=features, **more)  # type: ignore[arg-type]
    return load_features(folders, kind, skeletons, skeletons.rows("xsub", TRAIN), config=config)


def rgb_cache(data: Path, skeletons: Skeletons, *, failed: tuple[str, ...] = ()) -> Path:
    values = np.random.default_rng(0).normal(3, 2, size=(len(skeletons.names), 4)).astype(np.float32)
    return write_cache(data, skeletons.names, {"feature": values}, failed=failed)


def test_constant_features_are_the_mean_and_tell_heads_nothing(
    data: Path, skeletons: Skeletons, train_rows: np.ndarray
):
    """No variance is left; standardised they are zero to the last bit."""
    folder = rgb_cache(data, skeletons)
    real, constant = load(skeletons, folder), load(skeletons, folder, features="constant")
    given = constant.gather(train_rows)
    torch.testing.assert_close(given, real.gather(train_rows).mean(0).expand_as(given))
    for features in (real, constant):
        heads = build_heads(features, features, feature_dim=6, classes=4, config=TINY)
        assert heads.align is not None and heads.refine is not None
        for head in (heads.align, heads.refine):
            entering = head.standardise(features.gather(train_rows))
            assert (entering == 0).all() == (features is constant)


def test_shuffled_features_are_the_same_ones_in_other_hands(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """The training clips' own rows, each once, none where it was: distribution and statistics stay."""
    folder = rgb_cache(data, skeletons)
    real, shuffled = load(skeletons, folder), load(skeletons, folder, features="shuffled")
    own, dealt = real.gather(train_rows).tolist(), shuffled.gather(train_rows).tolist()
    assert sorted(own) == sorted(dealt) and all(a != b for a, b in zip(own, dealt, strict=True))
    np.testing.assert_array_equal(real.mean, shuffled.mean)
    np.testing.assert_array_equal(real.deviation, shuffled.deviation)
    assert real.digest == shuffled.digest


def test_the_seed_deals(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    folder = rgb_cache(data, skeletons)
    one, again, other = (load(skeletons, folder, features="shuffled", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.gather(train_rows), again.gather(train_rows))
    assert not torch.equal(one.gather(train_rows), other.gather(train_rows))


@pytest.mark.parametrize("control", ["constant", "shuffled"])
def test_a_clip_without_features_gets_none_by_a_control(
    data: Path, skeletons: Skeletons, train_rows: np.ndarray, control: str
):
    """And clips that are not trained on, held out ones among them, stay without, too."""
    failed = tuple(skeletons.names[row] for row in train_rows[:3])
    folder = rgb_cache(data, skeletons, failed=failed)
    real = load(skeletons, folder, allow_missing=True)
    found = load(skeletons, folder, features=control, allow_missing=True)
    away = np.setdiff1d(np.arange(len(skeletons.names)), train_rows[3:])
    assert found.missing == failed and not found.present[away].any() and not found.gather(away).any()
    there = found.gather(train_rows[3:])
    assert there.abs().sum(1).min() > 0
    if control == "shuffled":
        assert sorted(there.tolist()) == sorted(real.gather(train_rows[3:]).tolist())


def test_shuffled_prompts_of_one_clip_stay_together(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    values = np.arange(len(skeletons.names), dtype=np.float32)[:, None]
    folders = [
        write_cache(data, skeletons.names, {"prompt_feature": values}, kind="text", prompt=word) for word in ("a", "b")
    ]
    found = load(skeletons, *folders, kind="text", features="shuffled").gather(train_rows)
    assert torch.equal(found[:, 0], found[:, 1]) and found[:, 0].tolist() != train_rows.tolist()


def test_features_that_carry_nothing_are_let_in_as_the_control(data: Path, skeletons: Skeletons):
    same = np.ones((len(skeletons.names), 2), np.float32)
    folder = write_cache(data, skeletons.names, {"feature": same})
    assert load(skeletons, folder, features="constant").constant == 2
    with pytest.raises(ValueError, match="they carry nothing"):
        load(skeletons, folder, features="shuffled")


@pytest.mark.parametrize("control", ["constant", "shuffled"])
def test_a_run_says_which_control_it_was(data: Path, skeletons: Skeletons, tmp_path: Path, control: str):
    folder = rgb_cache(data, skeletons)
    write_run(tmp_path, plan(Job(data, tmp_path, replace(TINY, features=control), folder)).run)
    assert read_run(tmp_path).config.features == control
