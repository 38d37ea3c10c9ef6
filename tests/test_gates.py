"""What is let into a cache: numbers that are numbers, fit float32, and differ where the clips differ."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.store import open_cache
from mmcl.pipeline.extraction.gates import WIDE, blanked, failures_of, narrowed, refuse_blind
from mmcl.tests.loop import Eye, extract, mean_of, only_cache, write_names

ROWS = 12


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The strips of twelve clips. Not to be changed."""
    names = sorted(path.stem for path in (raw / "videos").iterdir())[::2]
    folder = write_names(tmp_path_factory.mktemp("gates") / "acted", names)
    extract(folder, raw / "videos")
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "acted"))


def good(rows: int = ROWS, width: int = WIDE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)


def with_row(row: int, value: object, dtype: str = "float32") -> np.ndarray:
    feature = good().astype(dtype)
    feature[row] = value
    return feature


ONE_WRONG = np.where(np.arange(WIDE) == 3, 1.0, 0.5)


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        (with_row(2, np.where(ONE_WRONG == 1, np.nan, 1)), "not finite: NaN in feature"),
        (with_row(2, np.where(ONE_WRONG == 1, np.inf, 1)), "overflow: feature holds a number too large for float32"),
        (with_row(2, np.where(ONE_WRONG == 1, -np.inf, 1)), "overflow: feature holds a number too large for float32"),
        (with_row(2, ONE_WRONG * 1e300, "float64"), "overflow: feature holds a number too large for float32"),
        (with_row(2, np.inf, "float16"), "overflow: feature holds a number too large for float16"),
        (with_row(2, 0.25), "constant: feature is 0.25 everywhere"),
        (with_row(2, 0), "constant: feature is 0 everywhere"),
    ],
    ids=["NaN", "infinite", "minus infinite", "float64", "float16", "constant", "zero"],
)
def test_a_row_of_no_use_is_a_failure_with_its_reason(feature: np.ndarray, reason: str):
    found = failures_of([""] * ROWS, {"feature": narrowed(feature)})
    assert found == ["", "", reason] + [""] * (ROWS - 3)


def test_the_clips_own_reason_comes_first():
    reasons = ["", "", "unreadable: not a video"]
    assert failures_of(reasons, {"feature": with_row(2, np.nan)[:3]}) == reasons


def test_few_equal_numbers_and_columns_that_are_no_features_are_let_in():
    columns = {
        "probabilities": np.full((ROWS, 2), 0.5, np.float32),
        "mass": np.ones(ROWS, np.float32),
        "answer_ids": np.full((ROWS, 16), 7),
        "answer_text": np.full(ROWS, b"yes"),
    }
    assert failures_of([""] * ROWS, columns) == [""] * ROWS
    refuse_blind("net", columns, [""] * ROWS)


def test_float64_is_kept_as_float32_and_nothing_else_is_changed():
    assert narrowed(good().astype(np.float64)).dtype == np.float32
    for dtype in ("float16", "float32", "int64", "bool", "S3"):
        assert narrowed(np.zeros(3, dtype)).dtype == np.dtype(dtype)


def test_one_feature_for_all_clips_is_refused():
    same = np.repeat(good(1), ROWS, axis=0)
    with pytest.raises(RuntimeError, match="net: feature is the same for 12 different clips, so it does not see the"):
        refuse_blind("net", {"feature": same}, [""] * ROWS)
    refuse_blind("net", {"feature": same}, ["no video"] * (ROWS - WIDE + 1) + [""] * (WIDE - 1))  # too few to tell
    same[5, 0] += 1
    refuse_blind("net", {"feature": same}, [""] * ROWS)


def test_failed_rows_are_zeros_and_empty_text():
    columns = {"feature": good(), "ids": np.full((ROWS, 2), 7), "said": np.full(ROWS, b"yes"), "seen": np.full(ROWS, 1)}
    blank = blanked(columns, ["", "no video", *[""] * (ROWS - 2)])
    assert not any(blank[name][1].any() if name != "said" else blank[name][1] for name in columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(np.delete(blank[name], 1, 0), np.delete(column, 1, 0))
        assert blank[name].dtype == column.dtype


# -- through the whole of stage one


def wide(images: np.ndarray) -> np.ndarray:
    return mean_of(images)["feature"] * np.arange(1, WIDE + 1)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda feature: feature * np.nan, "not finite: NaN in feature"),
        (lambda feature: feature.astype(np.float64) * 1e300, "overflow: feature holds a number too large for float32"),
        (lambda feature: feature * 0 + 3, "constant: feature is 3 everywhere"),
    ],
    ids=["NaN", "overflow", "constant"],
)
def test_a_number_that_is_none_makes_a_failed_row_of_zeros(
    data: Path, spoil: Callable[[np.ndarray], np.ndarray], reason: str
):
    """The others of its batch keep theirs."""

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        feature = wide(images).astype(np.float64)
        if len(images) > 1:
            feature[1] = spoil(feature[1])
        return {"feature": feature, "ids": np.full((len(images), 2), 7), "said": np.full(len(images), b"yes")}

    extract(data, rgb=Eye(answer), batch=6)
    rows, images = only_cache(data, "rgb"), only_cache(data, "person-images")
    assert rows.failures == dict.fromkeys((images.names[1], images.names[7]), reason)
    assert rows.array("feature").dtype == np.float32
    assert not rows.array("feature")[[1, 7]].any()
    assert not rows.array("ids")[[1, 7]].any()
    assert rows.array("said")[:3].tolist() == [b"yes", b"", b"yes"]
    assert rows.array("feature")[[0, 2, 6, 8]].all()


def test_a_model_that_sees_nothing_is_refused_and_no_row_of_it_is_kept(data: Path):
    eye = Eye(lambda images: {"feature": np.tile(np.arange(WIDE, dtype=np.float32), (len(images), 1))})
    with pytest.raises(RuntimeError, match="eye: feature is the same for 12 different clips"):
        extract(data, rgb=eye)
    (folder,) = (data / "rgb").iterdir()
    assert not list(folder.rglob("*.h5"))
    with pytest.raises(ValueError, match="not finished"):
        open_cache(folder)
