"""Two caches side by side: agreement, correlations, cosines; what is undefined is NaN and warns nobody."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache import compare as compare_module
from mmcl.cache.compare import Comparison, compare, correlation, linear_cka
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split
from mmcl.cache.store import Rows, create_cache, write_part
from mmcl.cache.table import Ragged

NAMES = tuple(f"clip{number}" for number in range(8))
SKELETONS = Skeletons(
    dataset="acted",
    classes=("wave", "drink", "empty"),
    layout=Layout("two", ("hip", "head"), ((1, 0),), 0),
    names=NAMES,
    labels=np.array([0, 1] * 4),
    bodies=np.ones(8, int),
    joints=Ragged.of([np.ones((1, 2, 3), np.float32)] * 8),
    splits={"all": Split(np.full(8, TRAIN, np.int8))},
)


def text_columns(names: tuple[str, ...], **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers that follow from the clip's own number, whatever the order of rows."""
    number = np.array([int(name.removeprefix("clip")) for name in names])
    yes = 0.1 + number / 10
    columns = {
        "answer_text": np.array([b"yes" if one > 4 else b"no" for one in number]),
        "probabilities": np.stack([yes, 1 - yes], 1).astype(np.float32),
        "mass": np.full(len(names), 0.5, np.float32),
        "prompt_feature": np.stack([np.cos(number), np.sin(number), np.ones(len(names))], 1).astype(np.float32),
    }
    return columns | changes


def cached(
    folder: Path,
    columns: Mapping[str, np.ndarray],
    names: tuple[str, ...] = NAMES,
    failed: tuple[str, ...] = (),
    recipe: Recipe | None = None,
) -> Rows:
    candidates = ["yes", "no"] if "probabilities" in columns else []
    made = create_cache(folder, recipe or Recipe("text", "acted", {"model": folder.name, "candidates": candidates}))
    write_part(made, 0, list(names), ["gone: x" if name in failed else "" for name in names], columns)
    return merge(made)


def compared(tmp_path: Path, left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> Comparison:
    return compare(cached(tmp_path / "left", left), cached(tmp_path / "right", right), SKELETONS)


def test_a_cache_agrees_with_itself(tmp_path: Path):
    rows = cached(tmp_path / "one", text_columns(NAMES))
    found = compare(rows, rows, SKELETONS)
    assert (found.answers, found.choice, found.notes) == (1, 1, ())
    assert found.mass == (0.5, 0.5)
    assert [(one.difference, one.correlation) for one in found.candidates] == [(0, pytest.approx(1))] * 2
    assert [(one.cosine, one.low, one.cka) for one in found.features] == [pytest.approx((1, 1, 1))]


def test_rows_are_joined_by_name_and_failed_ones_are_left_out(tmp_path: Path):
    backwards = NAMES[:1:-1]
    left = cached(tmp_path / "left", text_columns(NAMES[:6]), NAMES[:6], failed=("clip3", "clip5"))
    right = cached(tmp_path / "right", text_columns(backwards), backwards, failed=("clip3", "clip2"))
    found = compare(left, right, SKELETONS)
    counts = found.counts
    assert (counts.both, counts.left_only, counts.right_only) == (4, 2, 2)
    assert (counts.left_failed, counts.right_failed, counts.compared) == (2, 2, 1)
    assert (found.answers, found.features[0].cosine) == (1, pytest.approx(1))


def test_answers_agree_whatever_their_case(tmp_path: Path):
    said = np.array([b"Yes ", b"NO", b"no", b"maybe", b"", b" YES", b"yes", "ÄH".encode()])
    other = np.array([b"yes", b"no", b"yes", b"no", b"", b"yes", b"yes", "äh".encode()])
    found = compared(tmp_path, text_columns(NAMES, answer_text=said), text_columns(NAMES, answer_text=other))
    assert found.answers == 6 / 8
    assert found.choice == 1


def test_candidates_are_found_by_their_word_not_by_their_place(tmp_path: Path):
    swapped = text_columns(NAMES)
    recipe = Recipe("text", "acted", {"model": "right", "candidates": ["No", "Yes"]})
    right = cached(tmp_path, swapped | {"probabilities": swapped["probabilities"][:, ::-1]}, recipe=recipe)
    found = compare(cached(tmp_path / "left", text_columns(NAMES)), right, SKELETONS)
    assert found.choice == 1
    yes, no = found.candidates
    assert (yes.word, no.word) == ("yes", "no")
    assert (yes.left, yes.right, yes.correlation) == pytest.approx((0.45, 0.45, 1))
    assert no.left == pytest.approx(0.55)


def test_probabilities_are_set_against_each_other(tmp_path: Path):
    rng = np.random.default_rng(0)
    yes = rng.random((2, 8)).astype(np.float32)
    sides = [text_columns(NAMES, probabilities=np.stack([one, 1 - one], 1)) for one in yes]
    found = compared(tmp_path, *sides)
    assert found.choice == ((yes[0] > 0.5) == (yes[1] > 0.5)).mean()
    assert found.candidates[0].difference == pytest.approx(np.abs(yes[0] - yes[1]).mean())
    assert found.candidates[0].correlation == pytest.approx(np.corrcoef(yes)[0, 1])


def test_other_candidates_are_not_compared_and_the_answers_are(tmp_path: Path):
    recipe = Recipe("text", "acted", {"model": "right", "candidates": ["cup", "phone"]})
    right = cached(tmp_path, text_columns(NAMES), recipe=recipe)
    found = compare(cached(tmp_path / "left", text_columns(NAMES)), right, SKELETONS)
    assert isnan(found.choice)
    assert found.candidates == ()
    assert found.notes == ("candidates differ (yes, no; cup, phone): not compared",)
    assert found.answers == 1
    assert found.classes[0].agreement == 1


def test_each_class_has_its_line(tmp_path: Path):
    turned = text_columns(NAMES)
    turned["probabilities"][1::2] = (0.9, 0.1)
    turned["prompt_feature"][1::2] *= -1
    wave, drink, empty = compared(tmp_path, text_columns(NAMES), turned).classes
    assert (wave.name, wave.clips, wave.agreement, wave.cosine) == ("wave", 4, 1, pytest.approx(1))
    assert (drink.name, drink.clips, drink.cosine) == ("drink", 4, pytest.approx(-1))
    assert drink.agreement == 0.5
    assert (drink.left, drink.right) == pytest.approx((0.5, 0.9))
    assert empty.clips == 0
    assert isnan(empty.agreement) and isnan(empty.cosine)


def test_the_cosine_of_features_and_its_lower_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In blocks, and without the row that has no direction."""
    monkeypatch.setattr(compare_module, "BLOCK", 3)
    feature = np.tile(np.array([[1, 0]], np.float16), (8, 1))
    other = np.array([[2, 0]] * 4 + [[0, 3]] * 3 + [[0, 0]], np.float32)
    line = compared(tmp_path, {"feature": feature}, {"feature": other}).features[0]
    assert (line.column, line.left, line.right) == ("feature", 2, 2)
    assert (line.cosine, line.low) == (pytest.approx(4 / 7), 0)


def test_features_of_other_dimensions_have_no_cosine_and_are_compared_as_spaces(tmp_path: Path):
    rng = np.random.default_rng(0)
    left = rng.normal(size=(8, 5)).astype(np.float32)
    right = np.concatenate([left[:, ::-1] * 7 + 3, np.zeros((8, 4), np.float32)], axis=1)
    found = compared(tmp_path, {"feature": left}, {"feature": right})
    line = found.features[0]
    assert (line.left, line.right, line.cka) == (5, 9, pytest.approx(1, abs=1e-5))
    assert isnan(line.cosine) and isnan(line.low)
    assert found.notes == ("feature: no cosine between 5 and 9 dimensions",)


def test_features_of_an_rgb_network_are_compared_alike(tmp_path: Path):
    sides = []
    for model in ("left", "right"):
        columns = {"feature": np.ones((8, 3), np.float32), "logits": np.eye(8, 4, dtype=np.float32) + 1}
        sides.append(cached(tmp_path, columns, recipe=Recipe("rgb", "acted", {"model": model})))
    found = compare(*sides, SKELETONS)
    assert [line.column for line in found.features] == ["feature", "logits"]
    assert found.features[0].cosine == pytest.approx(1)
    assert isnan(found.features[0].cka)
    assert isnan(found.answers) and isnan(found.choice) and isnan(found.mass[0])
    assert [line.clips for line in found.classes] == [4, 4, 0]


def test_caches_without_a_good_clip_in_common_are_no_error(tmp_path: Path):
    right = cached(tmp_path / "right", text_columns(NAMES), failed=NAMES)
    found = compare(cached(tmp_path / "left", text_columns(NAMES)), right, SKELETONS)
    assert found.counts.compared == 0
    assert isnan(found.answers) and isnan(found.candidates[0].correlation) and isnan(found.features[0].cka)


@pytest.mark.parametrize(
    "other", [np.ones(6), np.full(6, np.nan), np.array([1, np.inf, np.nan, np.nan, np.nan, np.nan])]
)
def test_the_correlation_with_what_does_not_vary_is_undefined(other: np.ndarray):
    assert isnan(correlation(np.arange(6.0), other))
    assert isnan(correlation(other * 0.1, np.arange(6.0)))


def test_the_correlation_skips_what_is_not_finite():
    left, right = np.array([1, 2, np.nan, 4]), np.array([3, 2, 9, 0])
    assert correlation(left, right) == pytest.approx(-1)


def test_spaces_that_are_rotated_are_equal_and_unrelated_ones_are_not_close():
    """Without the bias that makes any two spaces of many dimensions look alike."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 200))
    rotation = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    assert linear_cka(features, features @ rotation * 3 + 1) == pytest.approx(1)
    assert abs(linear_cka(features, rng.normal(size=(60, 300)))) < 0.1
    assert isnan(linear_cka(features[:3], features[:3]))
    assert isnan(linear_cka(features, np.full((60, 4), 0.1)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (Recipe("text", "other", {"model": "m"}), "are of two data sets, acted and other; choose two of one"),
        (Recipe("rgb", "acted", {"model": "m"}), "are of two kinds, text and rgb; choose two of one"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, recipe: Recipe, message: str):
    left = cached(tmp_path / "left", text_columns(NAMES))
    with pytest.raises(ValueError, match=message):
        compare(left, cached(tmp_path, text_columns(NAMES), recipe=recipe), SKELETONS)


def test_person_images_are_not_compared_and_strangers_skeletons_are_refused(tmp_path: Path):
    images = cached(tmp_path, {"mass": np.ones(8)}, recipe=Recipe("person-images", "acted", {"person": "frame"}))
    with pytest.raises(ValueError, match="hold person images; compare takes rgb or text features"):
        compare(images, images, SKELETONS)
    odd = cached(tmp_path, text_columns(NAMES), recipe=Recipe("text", "odd", {"model": "m"}))
    with pytest.raises(ValueError, match="are caches of odd, the skeletons are of acted"):
        compare(odd, odd, SKELETONS)
