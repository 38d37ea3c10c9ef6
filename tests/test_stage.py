"""`mmcl extract-features` as one function: what is there is reused, and what cannot begin says why."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import pytest

from mmcl.cache.recipe import Recipe
from mmcl.cache.store import create_cache, open_cache
from mmcl.pipeline.prompts import PROMPTS
from mmcl.pipeline.stage import Report, Request, extract_features
from mmcl.pipeline.video import find_videos

QUESTION, DESCRIPTION = PROMPTS["holding-object"], PROMPTS["describe-person"]


def quietly(request: Request) -> list[Report]:
    return extract_features(request, lambda title: lambda done, total: None)


def files(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Contents and time of every file."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def extracted(prepared: Path, raw: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Person images, RGB features, and the answers of one LLM to one prompt. Not to be changed."""
    folder = tmp_path_factory.mktemp("extracted")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    rgb, llm = str(models / "tiny-resnet"), str(models / "tiny-blip-vqa")
    reports = quietly(Request(data, raw / "videos", "frame", rgb, llm, [QUESTION], 16, "cpu"))
    assert [(report.recipe.kind, report.filled.made, report.decoded) for report in reports] == [
        ("person-images", 24, 24),
        ("rgb", 24, 0),
        ("text", 24, 0),
    ]
    return data


@pytest.fixture
def mine(extracted: Path, tmp_path: Path) -> Path:
    """A copy of `extracted` to change; the videos are not with it."""
    return Path(shutil.copytree(extracted, tmp_path / "acted"))


@pytest.fixture
def swap(mine: Path, models: Path) -> Request:
    """Another LLM for data whose person images are there; no videos are given."""
    return Request(mine, None, None, None, str(models / "tiny-llava"), [QUESTION], 16, "cpu")


@pytest.fixture
def no_video_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object) -> None:
        raise AssertionError("a video was looked for")

    monkeypatch.setattr("mmcl.pipeline.extract.read_clip", opened)
    monkeypatch.setattr("mmcl.pipeline.stage.find_videos", opened)


@pytest.mark.usefixtures("no_video_opened")
def test_swapping_the_llm_opens_no_video_and_touches_no_other_cache(mine: Path, swap: Request):
    before = files(mine)
    images, text = quietly(swap)
    assert (images.note, images.decoded) == ("reused as it was", 0)
    assert (text.note, text.recipe.model) == ("made 24 rows", "tiny-llava")
    after = files(mine)
    assert {path: after[path] for path in before} == before
    assert {path.parent for path in after.keys() - before.keys()} == {text.folder}


@pytest.mark.usefixtures("no_video_opened")
def test_each_prompt_is_a_cache_of_its_own_and_known_ones_are_reused(mine: Path, swap: Request, models: Path):
    both = replace(swap, llm=str(models / "tiny-blip-vqa"), prompts=[QUESTION, DESCRIPTION])
    _, old, new = quietly(both)
    assert [(one.recipe.prompt, one.filled.made) for one in (old, new)] == [
        ("holding-object", 0),
        ("describe-person", 24),
    ]
    assert old.folder != new.folder


def test_run_again_with_everything_there_it_changes_nothing(mine: Path, raw: Path, models: Path):
    before = files(mine)
    llm, rgb = str(models / "tiny-blip-vqa"), str(models / "tiny-resnet")
    reports = quietly(Request(mine, raw / "videos", "frame", rgb, llm, [QUESTION], 16, "cpu"))
    assert [(report.note, report.decoded) for report in reports] == [("reused as it was", 0)] * 3
    assert files(mine) == before


def test_a_run_without_models_makes_the_person_images_only(data: Path, raw: Path):
    (report,) = quietly(Request(data, raw / "videos", "frame", None, None, [], 16, "cpu"))
    assert report.note == "made 24 rows"
    assert report.folder == data / "person-images" / report.recipe.key
    assert len(open_cache(report.folder).names) == 24


def other_images(data: Path, person: str) -> Path:
    """Person images by another detector: a copy under another recipe."""
    known = next((data / "person-images").iterdir())
    recipe = open_cache(known).recipe
    folder = create_cache(data, Recipe(recipe.kind, recipe.dataset, {**recipe.settings, "person": person}))
    shutil.copy(known / "cache.h5", folder)
    with h5py.File(folder / "cache.h5", "r+") as file:
        file.attrs["key"] = folder.name
    return folder


def test_of_several_person_images_the_right_ones_have_to_be_named(mine: Path, swap: Request):
    other_images(mine, "owner/detector")
    listed = r"2 caches of person images fit; give --videos \(and --person\):(\n  \w{12}  person .*, \{name\}){2}"
    with pytest.raises(ValueError, match=listed):
        quietly(swap)
    images, _ = quietly(replace(swap, person="frame"))
    assert images.recipe.settings["person"] == "frame"


@pytest.mark.parametrize("asked", ["tiny-yolos", "/somewhere/tiny-yolos"])
def test_person_images_of_a_detectors_folder_are_known_by_the_folders_name(mine: Path, swap: Request, asked: str):
    folder = other_images(mine, "tiny-yolos")
    (images,) = quietly(replace(swap, person=asked, llm=None))
    assert images.folder == folder


def test_without_person_images_the_videos_are_asked_for(data: Path, models: Path):
    request = Request(data, None, None, str(models / "tiny-resnet"), None, [], 16, "cpu")
    with pytest.raises(ValueError, match=r"0 caches of person images fit; give --videos \(and --person\): none yet"):
        quietly(request)


def test_person_images_that_are_not_finished_are_not_used(mine: Path, swap: Request):
    folder = next((mine / "person-images").iterdir())
    (folder / "cache.h5").unlink()
    with pytest.raises(ValueError, match="24 clips have no person image yet; give --videos again, it resumes"):
        quietly(swap)


def test_data_that_was_not_prepared_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no skeleton cache here; make it with `mmcl prepare`"):
        quietly(Request(tmp_path, None, None, None, None, [], 16, "cpu"))


def test_videos_of_other_names_are_refused(data: Path, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(ValueError, match="no video of any of 24 samples"):
        quietly(Request(data, tmp_path / "videos", "frame", None, None, [], 16, "cpu"))


def test_a_detector_that_is_none_is_refused_with_the_way_to_do_without(data: Path, raw: Path, models: Path):
    with pytest.raises(ValueError, match=r"--person .*tiny-resnet.*; or take whole frames with --person frame"):
        quietly(Request(data, raw / "videos", str(models / "tiny-resnet"), None, None, [], 16, "cpu"))


def test_what_is_missing_is_said_before_a_large_model_is_loaded(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmcl.pipeline.stage.ENCODERS", {})
    with pytest.raises(ValueError, match="give --videos"):
        quietly(Request(data, None, None, "owner/net", "owner/llm", [QUESTION], 16, "cpu"))


@pytest.mark.usefixtures("no_video_opened")
def test_a_model_that_is_not_there_is_said_before_a_video_is_opened(
    data: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mmcl.pipeline.stage.find_videos", find_videos)
    with pytest.raises(ValueError, match="absent: no such folder"):
        quietly(Request(data, raw / "videos", "frame", None, str(data / "absent"), [QUESTION], 16, "cpu"))
    assert not (data / "person-images").exists()


def test_each_cache_that_is_made_has_a_bar_with_its_name(mine: Path, swap: Request):
    titles: list[str] = []

    def bar(title: str) -> Callable[[int, int], None]:
        titles.append(title)
        return lambda done, total: None

    extract_features(swap, bar)
    assert titles == ["text features, tiny-llava"]
