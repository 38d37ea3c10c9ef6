"""Features joined by name and read from the caches as they are needed; gaps and strangers refused before an epoch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, Skeletons
from mmcl.cache.store import create_cache
from mmcl.tests.features import features_of, write_cache
from mmcl.trainer.config import Config
from mmcl.trainer.data.features import Features, columns_of, load_features
from mmcl.trainer.data.moments import Moments
from mmcl.trainer.plan import Job, plan

TINY = Config(split="xsub", width=8, window=16, batch=4)


def load(skeletons: Skeletons, *folders: Path, kind: str = "rgb", **config: object) -> Features:
    """The features of the training clips."""
    return load_features(folders, kind, skeletons, skeletons.rows("xsub", TRAIN), config=replace(TINY, **config))  # type: ignore[arg-type]


def numbered(skeletons: Skeletons, names: Sequence[str]) -> np.ndarray:
    """Each clip's feature says which row of the skeleton cache it belongs to."""
    return np.array([[skeletons.names.index(name), 1.0] for name in names], np.float32)


def test_features_find_their_clips_whatever_the_order(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = np.random.default_rng(0).permutation(skeletons.names).tolist()
    found = load(skeletons, write_cache(data, names, {"feature": numbered(skeletons, names)}))
    rows = train_rows[::-1].copy()
    assert found.gather(rows)[:, 0].tolist() == rows.tolist()
    assert found.gather(rows).shape == (len(rows), 2) and found.gather(rows).dtype == torch.float32
    assert np.flatnonzero(found.present).tolist() == train_rows.tolist()
    assert found.missing == () and [recipe.model for recipe in found.recipes] == ["some/net"]


def test_nothing_is_known_of_clips_that_are_not_trained_on(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """The cache has their features; the trainer does not take them."""
    names = list(skeletons.names)
    found = load(skeletons, write_cache(data, names, {"feature": numbered(skeletons, names) + 1}))
    others = np.setdiff1d(np.arange(len(names)), train_rows)
    assert len(others) and not found.gather(others).any() and not found.present[others].any()
    assert found.mean[0] == pytest.approx(train_rows.mean() + 1)


def test_features_stay_in_the_caches_file(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """What is loaded is a view that cannot be written to; the rows themselves are not kept."""
    names = list(skeletons.names)
    wide = np.random.default_rng(0).normal(size=(len(names), 200_000)).astype(np.float32)
    folder = write_cache(data, names, {"feature": wide})
    tracemalloc.start()
    found = load(skeletons, folder)
    given = found.gather(train_rows[:1])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(given[0], torch.from_numpy(wide[train_rows[0]]))
    assert kept < found.mean.nbytes + found.deviation.nbytes + 2 * wide[0].nbytes < wide[train_rows].nbytes
    column = found.parts[0].columns["feature"]
    assert not column.flags.owndata and not column.flags.writeable


def test_text_features_are_what_the_cache_has_of_the_chosen_columns(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    values = np.arange(len(names), dtype=np.float16)[:, None].repeat(2, 1)
    columns = {"probabilities": values, "prompt_feature": values + 100, "answer_feature": values + 200}
    folder = write_cache(data, names, columns, kind="text", prompt="holding-object")
    row = skeletons.rows("xsub", TRAIN)[:1]
    found = load(skeletons, folder, kind="text")
    assert found.gather(row)[0].tolist() == [row + 100, row + 100, row + 200, row + 200, row, row]
    assert found.gather(row).dtype == torch.float32 and found.dim == 6
    some = load(skeletons, folder, kind="text", refine_features=("probabilities", "answer_feature"))
    assert some.gather(row)[0].tolist() == [row, row, row + 200, row + 200]
    with pytest.raises(ValueError, match="none of the columns feature; is it a rgb cache"):
        load(skeletons, folder)


def test_several_prompts_stand_side_by_side(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """In the order they were asked for; a clip that failed in one of them has none."""
    names, away = list(skeletons.names), skeletons.names[train_rows[1]]
    values = numbered(skeletons, names)[:, :1]
    hand = write_cache(data, names, {"prompt_feature": values}, kind="text", prompt="hand")
    foot = write_cache(data, names[::-1], {"prompt_feature": -values[::-1]}, kind="text", prompt="foot", failed=[away])
    found = load(skeletons, foot, hand, kind="text", allow_missing=True)
    assert found.gather(train_rows[2:4]).tolist() == [[-row, row] for row in train_rows[2:4].tolist()]
    assert [recipe.prompt for recipe in found.recipes] == ["foot", "hand"]
    assert found.missing == (away,) and not found.present[train_rows[1]]
    assert not found.gather(train_rows[1:2]).any()
    with pytest.raises(ValueError, match=rf"{foot}: failed rows for 1 training clips \({away}\)"):
        load(skeletons, hand, foot, kind="text")


def test_alignment_takes_pooled_features_or_class_logits(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = list(skeletons.names)
    values = numbered(skeletons, names)
    folder = write_cache(data, names, {"feature": values, "logits": 2 * values[:, :1]})
    assert load(skeletons, folder).gather(train_rows[1:2]).tolist() == [[train_rows[1], 1]]
    assert load(skeletons, folder, align_input="logits").gather(train_rows[1:2]).tolist() == [[2 * train_rows[1]]]
    plain = write_cache(data, names, {"feature": values}, model="some/dino")
    with pytest.raises(ValueError, match=r"some/dino gave no class logits, only classifiers do .* align_input=pooled"):
        load(skeletons, plain, align_input="logits")


def test_token_ids_are_the_first_three_as_they_are(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """What the released code feeds its gate; an answer that is shorter ends in zeros."""
    names = list(skeletons.names)
    ids = np.tile(np.array([[30522, 2748, 102, 7]], np.int32), (len(names), 1))
    ids[train_rows[0]] = [30522, 2053, -1, -1]
    folder = write_cache(data, names, {"answer_ids": ids, "prompt_feature": numbered(skeletons, names)}, kind="text")
    found = load(skeletons, folder, kind="text", refine_features=("answer_ids",))
    assert found.gather(train_rows[:2]).tolist() == [[30522, 2053, 0], [30522, 2748, 102]] and found.raw
    with pytest.raises(ValueError, match=r"answer_ids, the released code's token ids, stand alone"):
        columns_of("text", replace(TINY, refine_features=("answer_ids", "prompt_feature")))


def test_a_clip_without_a_row_is_refused_by_name(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """Also where missing features are allowed: that is for failures, not for a cache that is not complete."""
    gone = skeletons.names[train_rows[3]]
    names = [name for name in skeletons.names if name != gone]
    folder = write_cache(data, names, {"feature": numbered(skeletons, names)})
    for allow in (False, True):
        with pytest.raises(ValueError, match=rf"no row for 1 training clips \({gone}\); extract again"):
            load(skeletons, folder, allow_missing=allow)


def test_a_test_clip_without_a_row_does_not_matter(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = [skeletons.names[row] for row in train_rows]
    assert load(skeletons, write_cache(data, names, {"feature": numbered(skeletons, names)})).missing == ()


def test_failed_rows_are_refused_and_listed_unless_allowed(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    names = list(skeletons.names)
    failed = [names[row] for row in train_rows[:10]]
    values = numbered(skeletons, names)
    values[train_rows[:10]] = np.nan
    folder = write_cache(data, names, {"feature": values}, failed=failed)
    listed = ", ".join(failed[:8])
    mend = "--retry-failed, or train without them: --allow-missing"
    with pytest.raises(ValueError, match=rf"failed rows for 10 training clips \({listed} and 2 more\); .*{mend}"):
        load(skeletons, folder)
    found = load(skeletons, folder, allow_missing=True)
    assert found.missing == tuple(failed) and found.mean[0] == train_rows[10:].mean()
    assert found.present[train_rows].tolist() == [False] * 10 + [True] * (len(train_rows) - 10)
    assert found.gather(train_rows[9:11]).tolist() == [[0, 0], [train_rows[10], 1]]


def test_a_cache_in_which_all_failed_is_refused(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    folder = write_cache(data, names, {"feature": numbered(skeletons, names)}, failed=names)
    with pytest.raises(ValueError, match="not one training clip has features; say --rgb none"):
        load(skeletons, folder, allow_missing=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_float32_are_refused_by_name(
    data: Path, skeletons: Skeletons, train_rows: np.ndarray, value: float
):
    names = list(skeletons.names)
    values = numbered(skeletons, names).astype(np.float64)
    values[train_rows[2], 1] = value
    folder = write_cache(data, names, {"feature": values})
    with pytest.raises(ValueError, match=rf"NaN or Inf in 1 training clips \({names[train_rows[2]]}\)"):
        load(skeletons, folder, allow_missing=True)


def test_damaged_rows_of_training_clips_are_refused_by_name(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """A bit that turned on the disk; one in the row of a test clip is nothing to us."""
    names = list(skeletons.names)
    values = np.random.default_rng(0).normal(size=(len(names), 8)).astype(np.float32)
    folder = write_cache(data, names, {"feature": values})
    test_clip = next(row for row in range(len(names)) if row not in train_rows)
    turn_a_bit(folder / "cache.h5", values[test_clip])
    load(skeletons, folder)
    turn_a_bit(folder / "cache.h5", values[train_rows[4]])
    with pytest.raises(ValueError, match=rf"damaged rows for 1 training clips \({names[train_rows[4]]}\); move the"):
        load(skeletons, folder)


def turn_a_bit(path: Path, row: np.ndarray) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(row.tobytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_another_data_sets_cache_is_refused(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    folder = write_cache(data, names, {"feature": numbered(skeletons, names)}, dataset="nw-ucla")
    with pytest.raises(ValueError, match="made for nw-ucla, these skeletons are acted"):
        load(skeletons, folder)


def test_an_unfinished_cache_is_refused(data: Path, skeletons: Skeletons):
    folder = create_cache(data, Recipe("rgb", "acted", {"model": "m"}))
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again"):
        load(skeletons, folder)


def test_a_column_of_another_shape_is_refused(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    folder = write_cache(data, names, {"feature": np.ones(len(names))})
    with pytest.raises(ValueError, match=r"column feature is float64 \[24\], wanted \[rows, D\]"):
        load(skeletons, folder)


def test_features_that_are_the_same_for_all_clips_are_refused(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    folder = write_cache(data, names, {"feature": np.full((len(names), 3), 0.1, np.float32)})
    with pytest.raises(ValueError, match="all 12 training clips are the same, they carry nothing; say --rgb none"):
        load(skeletons, folder)


def test_single_constant_dimensions_are_counted(data: Path, skeletons: Skeletons):
    names = list(skeletons.names)
    found = load(skeletons, write_cache(data, names, {"feature": numbered(skeletons, names)}))
    assert found.constant == 1 and found.deviation[1] == 0 and found.deviation[0] > 0


def test_the_digest_changes_with_a_row_that_is_made_anew(data: Path, skeletons: Skeletons, train_rows: np.ndarray):
    """With one that is trained on, that is: not with a test clip's, and not with the order of rows or parts."""
    names = list(skeletons.names)
    folder = write_cache(data, names, {"feature": numbered(skeletons, names)})
    first = load(skeletons, folder).digest
    again = write_cache(data / "again", names[::-1], {"feature": numbered(skeletons, names[::-1])})
    assert load(skeletons, again).digest == first
    test_clip = next(row for row in range(len(names)) if row not in train_rows)
    for row, same in ((test_clip, True), (train_rows[5], False)):
        values = numbered(skeletons, names)
        values[row] += 1e-3
        other = write_cache(data / f"other-{row}", names, {"feature": values})
        assert (load(skeletons, other).digest == first) == same


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_moments_of_blocks_are_those_of_all_rows(dtype: type):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(1000, 5)) * [1, 100, 1e-3, 0, 1e-9] + [0, 1e4, -5, 0.1, 1]).astype(dtype)
    moments = Moments(5)
    for block in np.split(rows, [0, 1, 300, 999]):
        moments.add(block)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.deviation[:3], exact.std(0)[:3], rtol=1e-12)
    assert (moments.deviation[3:] == 0).all() and moments.count == 1000


def test_what_varies_below_the_reach_of_float32_is_constant():
    rows = np.array([[1e-42, 0], [2e-42, 1]])
    assert (features_of(rows).deviation > 0).tolist() == [False, True]


def test_the_pass_over_the_rows_is_told_of(data: Path, skeletons: Skeletons):
    """Both kinds and every prompt count towards one end."""
    names, heard = list(skeletons.names), list[tuple[int, int]]()
    values = numbered(skeletons, names)
    rgb = write_cache(data, names, {"feature": values})
    texts = [write_cache(data, names, {"prompt_feature": values}, kind="text", prompt=word) for word in ("a", "b")]
    plan(Job(data, data / "out", TINY, rgb, tuple(texts)), lambda done, total: heard.append((done, total)))
    assert heard == [(12, 36), (24, 36), (36, 36)]
