"""What the teachers saw, in a report: shown where caches are there, said where they are not, never an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import Skeletons
from mmcl.cache.store import create_cache, find_caches, open_cache
from mmcl.tests.reports import Page, evaluation, jpeg, page_of, teach
from mmcl.tests.training import features
from mmcl.trainer.reporting.report import write_run_report
from mmcl.trainer.reporting.teachers import picture_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def report(data: Path, run: Path, skeletons: Skeletons) -> Page:
    return page_of(write_run_report(evaluation(data, run), skeletons, run))


def damage(cache: Path, name: str, column: str) -> None:
    """Change one byte of a clip's row on the disk."""
    rows = open_cache(cache)
    value = rows.columns[column][rows.row_of[name]].tobytes()
    path = cache / "cache.h5"
    content = path.read_bytes()
    assert content.count(value) == 1
    at = content.index(value) + len(value) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_pictures_and_answers_stand_beside_the_mistakes(data, run, skeletons):
    teach(data, answer="Yes, a cup")
    page = report(data, run, skeletons)
    shown = page.tags["article"]
    assert page.tags["img"] == shown > 0
    assert page.text.count("Yes, a cup") == page.text.count("75.0%") == shown
    assert page.text.count("What is held?") > shown  # the recipe and the commands ask it too
    assert page.text.count("taught this run") == shown + 1  # of the answers' cache, and in its recipe


def test_without_caches_the_page_says_so_and_is_whole(data, run, skeletons):
    """As after the caches of a finished run were deleted: the recipes are still told, by the run."""
    teach(data)
    found = evaluation(data, run)
    for kind in ("text", "person-images"):
        shutil.rmtree(data / kind)
    page = page_of(write_run_report(found, skeletons, run))
    assert not page.tags["img"] and "No person images and no answers" in page.text
    assert page.tags["article"] and "since deleted or moved" in page.text and "What is held?" in page.text


def test_without_the_data_folder_the_page_is_whole(data, run, skeletons):
    found = evaluation(data, run)
    shutil.rmtree(data)
    page = page_of(write_run_report(found, skeletons, run))
    assert page.tags["article"] and "No person images" in page.text


def test_answers_without_pictures(data, run, skeletons):
    teach(data)
    shutil.rmtree(data / "person-images")
    page = report(data, run, skeletons)
    assert "no person images are in the caches" in page.text and "Yes, a cup" in page.text


def test_an_unfinished_cache_is_named(data, run, skeletons):
    images = teach(data, finished=False)
    page = report(data, run, skeletons)
    assert f"person-images {images.name}" in page.text and "not finished" in page.text and not page.tags["img"]


def test_a_picture_that_is_none_is_said(data, run, skeletons):
    bad = evaluation(data, run).scores.names
    teach(data, unreadable=bad)
    page = report(data, run, skeletons)
    assert not page.tags["img"] and page.text.count("no person image: ") == page.tags["article"]
    assert "Yes, a cup" in page.text


def test_why_a_clip_failed_is_said(data, run, skeletons):
    found = evaluation(data, run)
    teach(data, failed="timeout: the decoder was silent")
    page = page_of(write_run_report(found, skeletons, run))
    assert page.text.count("no person image: timeout") == page.text.count("no answer: timeout") == page.tags["article"]
    assert not page.tags["img"] and "Yes, a cup" not in page.text


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [("person-images", "jpeg", "no person image: damaged"), ("text", "prompt_feature", "no answer: damaged")],
)
def test_a_damaged_row_is_not_shown(data, run, skeletons, kind, column, said):
    """A checksum that does not fit: the picture or the answer may be anything."""
    teach(data)
    found = evaluation(data, run)
    [cache] = find_caches(data, kind)
    wrong = np.flatnonzero(found.scores.values.argmax(1) != found.scores.labels)
    damage(cache, found.scores.names[wrong[0]], column)
    page = page_of(write_run_report(found, skeletons, run))
    assert page.text.count(said) == 1
    assert page.tags["img"] + page.text.count("Yes, a cup") == 2 * page.tags["article"] - 1


def test_a_file_that_is_no_cache_is_named(data, run, skeletons):
    teach(data)
    found = evaluation(data, run)
    [cache] = find_caches(data, "person-images")
    (cache / "cache.h5").write_bytes(b"not HDF5")
    (data / "text" / "0123456789ab").mkdir()
    (data / "text" / "0123456789ab" / "recipe.json").write_text('{"format": 2, "kind": "text", "settings": 3}')
    page = page_of(write_run_report(found, skeletons, run))
    assert "not a readable HDF5 file" in page.text and "not a recipe" in page.text and "Yes, a cup" in page.text


def test_a_cache_of_another_data_set_is_not_shown(data, run, skeletons):
    folder = create_cache(data, Recipe("person-images", "another", {"layout": "strip"}))
    page = report(data, run, skeletons)
    assert f"person-images {folder.name}: of another, not shown" in page.text


def test_features_without_answers_are_shown_as_no_words(data, run, skeletons):
    features(data)
    page = report(data, run, skeletons)
    assert page.text.count("(no words)") == page.tags["article"] > 0


def test_a_picture_is_drawn_anew():
    """What hides behind a JPEG's pixels does not reach the page, and a huge one is not opened."""
    hidden = b"<script>alert(1)</script>"
    content = jpeg()
    found = picture_of(content[:2] + b"\xff\xfe" + (len(hidden) + 2).to_bytes(2) + hidden + content[2:])
    assert (found.width, found.height) == (96, 64) and "PHNjcmlwdD" not in found.address
    with pytest.raises(ValueError, match="5000 x 1"):
        picture_of(_wide())
    with pytest.raises(OSError):
        picture_of(b"GIF89a")


def _wide() -> bytes:
    import io

    content = io.BytesIO()
    Image.fromarray(np.zeros((1, 5000, 3), np.uint8)).save(content, "JPEG")
    return content.getvalue()
