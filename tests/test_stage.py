"""`mmcl extract-features` as one function: what is there is reused, and what cannot begin says why."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.recipe import Recipe
from mmcl.cache.store import create_cache, find_caches, open_cache
from mmcl.cache.table import concatenate, read_table
from mmcl.cache.terminal import new_console
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.pipeline.extraction.plan import Request
from mmcl.pipeline.extraction.stage import Extraction, extract_features
from mmcl.pipeline.report import note_failures
from mmcl.pipeline.stop import Stop
from mmcl.pipeline.videos.find_videos import find_videos
from mmcl.tests.loop import Eye, columns_of, extract, files, mean_of, only_cache, quiet, write_names

QUESTION, DESCRIPTION = PROMPTS["holding-object"], PROMPTS["describe-person"]
SAME_LAYOUT = PROMPTS["touching-head"]


def quietly(request: Request) -> Extraction:
    return extract_features(request, quiet)


@pytest.fixture(scope="module")
def extracted(prepared: Path, raw: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Person images, RGB features, and the answers of one LLM to one prompt. Not to be changed."""
    folder = tmp_path_factory.mktemp("extracted")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    rgb, llm = str(models / "tiny-resnet"), str(models / "tiny-blip-vqa")
    found = quietly(Request(data, raw / "videos", "frame", rgb, llm, [QUESTION], 16, "cpu"))
    assert [(report.recipe.kind, report.made) for report in found.reports] == [
        ("person-images", 24),
        ("rgb", 24),
        ("text", 24),
    ]
    assert (found.decoded, found.missing) == (24, 0)
    assert {"decode", "crop", "preprocess", "forward", "write"} <= found.clock.seconds.keys()
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

    monkeypatch.setattr("mmcl.pipeline.videos.decoder.Decoders.read", opened)
    monkeypatch.setattr("mmcl.pipeline.extraction.plan.find_videos", opened)


@pytest.fixture
def no_weights_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*args: object, **settings: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("mmcl.pipeline.encoders.checkpoint.Checkpoint.load", loaded)


@pytest.mark.usefixtures("no_video_opened")
def test_swapping_the_llm_opens_no_video_and_touches_no_other_cache(mine: Path, swap: Request):
    before = files(mine)
    found = quietly(swap)
    images, text = found.reports
    assert (images.note, found.decoded) == ("reused as it was", 0)
    assert (text.note, text.recipe.model) == ("made 24 rows", "tiny-llava")
    after = files(mine)
    assert {path: after[path] for path in before} == before
    assert {(mine / path).parent for path in after.keys() - before.keys()} == {text.folder}


@pytest.mark.usefixtures("no_video_opened")
def test_each_prompt_is_a_cache_of_its_own_and_known_ones_are_reused(mine: Path, swap: Request, models: Path):
    both = replace(swap, llm=str(models / "tiny-blip-vqa"), prompts=[QUESTION, SAME_LAYOUT])
    _, old, new = quietly(both).reports
    assert [(one.recipe.prompt, one.made) for one in (old, new)] == [("holding-object", 0), ("touching-head", 24)]
    assert old.folder != new.folder


def test_a_prompt_about_one_frame_says_that_its_images_are_not_there_and_makes_them(
    mine: Path, raw: Path, swap: Request
):
    asked = replace(swap, prompts=[QUESTION, DESCRIPTION])
    wanted = "tiny-llava wants person images laid out as 'single', which are not there; give --videos"
    with pytest.raises(ValueError, match=wanted):
        quietly(asked)
    found = quietly(replace(asked, videos=raw / "videos", person="frame"))
    assert found.decoded == 24
    made = {(report.recipe.kind, report.recipe.prompt): report.made for report in found.reports}
    assert made == {
        ("person-images", "-"): made["person-images", "-"],
        ("text", "holding-object"): 24,
        ("text", "describe-person"): 24,
    }
    layouts = {report.recipe.settings.get("layout"): report.made for report in found.reports}
    assert (layouts["strip"], layouts["single"]) == (0, 24)


@pytest.mark.usefixtures("no_weights_loaded")
def test_run_again_with_everything_there_it_loads_no_weights_and_changes_nothing(mine: Path, raw: Path, models: Path):
    before = files(mine)
    llm, rgb = str(models / "tiny-blip-vqa"), str(models / "tiny-resnet")
    found = quietly(Request(mine, raw / "videos", "frame", rgb, llm, [QUESTION], 16, "cpu"))
    assert [report.note for report in found.reports] == ["reused as it was"] * 3
    assert found.decoded == 0
    assert files(mine) == before


def test_a_run_without_models_makes_the_person_images_only(data: Path, raw: Path):
    (report,) = quietly(Request(data, raw / "videos", "frame", None, None, [], 16, "cpu")).reports
    assert report.note == "made 24 rows"
    assert report.folder == data / "person-images" / report.recipe.key
    assert len(open_cache(report.folder).names) == 24


def other_images(data: Path, person: str) -> Path:
    """Person images by another detector: a copy under another recipe."""
    known = next((data / "person-images").iterdir())
    recipe = open_cache(known).recipe
    folder = create_cache(data, Recipe(recipe.kind, recipe.dataset, {**recipe.settings, "person": person}))
    said = read_table(known / "cache.h5")[1] | {"key": folder.name}
    concatenate(folder / "cache.h5", [known / "cache.h5"], [np.arange(24)], said)
    return folder


def test_of_several_person_images_the_right_ones_have_to_be_named(mine: Path, swap: Request):
    other_images(mine, "owner/detector")
    listed = (
        r"2 caches of 'strip' person images fit; say which with --person(\n  \w{12}  strip, person .*, \{name\}){2}"
    )
    with pytest.raises(ValueError, match=listed):
        quietly(swap)
    images, _ = quietly(replace(swap, person="frame")).reports
    assert images.recipe.settings["person"] == "frame"


@pytest.mark.parametrize("asked", ["tiny-yolos", "/somewhere/tiny-yolos"])
def test_person_images_of_a_detectors_folder_are_known_by_the_folders_name(mine: Path, swap: Request, asked: str):
    folder = other_images(mine, "tiny-yolos")
    (images,) = quietly(replace(swap, person=asked, llm=None)).reports
    assert images.folder == folder


def test_without_person_images_the_videos_are_asked_for(data: Path, models: Path):
    request = Request(data, None, None, str(models / "tiny-resnet"), None, [], 16, "cpu")
    with pytest.raises(ValueError, match=r"no person images are there yet; give --videos, and they are made"):
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


def images_of(data: Path, videos: Path, pattern: str | None = None) -> Request:
    """A command that makes person images of whole frames and nothing else."""
    return Request(data, videos, "frame", None, None, [], 16, "cpu", video_pattern=pattern)


def without(raw: Path, folder: Path, count: int) -> tuple[Path, list[str]]:
    """A copy of the videos without the first ones, and the names of those."""
    lacking = sorted(path.stem for path in (raw / "videos").iterdir())[:count]
    shutil.copytree(raw / "videos", folder, ignore=shutil.ignore_patterns(*(f"{name}.*" for name in lacking)))
    return folder, lacking


def rows_of(table: Path) -> list[list[str]]:
    return list(csv.reader(table.read_text().splitlines()))


@pytest.mark.parametrize("pattern", [None, "{name}.mp4"])
def test_samples_without_a_video_are_told_of_before_the_work_begins_and_are_failed_rows(
    data: Path, raw: Path, tmp_path: Path, pattern: str | None
):
    videos, lacking = without(raw, tmp_path / "videos", 5)
    told = list[str]()

    def tell(line: str) -> None:
        assert not (data / "person-images").exists()
        told.append(line)

    found = extract_features(images_of(data, videos, pattern), quiet, tell=tell)
    listed = data / "missing-videos.csv"
    assert told == [f"5 of 24 samples have no video ({', '.join(lacking[:3])}, ...); all in {listed}"]
    looked = {name: pattern.format(name=name) if pattern else name for name in lacking}
    assert rows_of(listed) == [["name", "looked for"], *map(list, looked.items())]
    assert found.reports[0].failures == {name: f"missing: no video {where}" for name, where in looked.items()}
    assert note_failures(new_console(quiet=True), found, data / "failures.csv")
    assert rows_of(data / "failures.csv")[1:] == [[n, f"missing: no video {where}"] for n, where in looked.items()]


def test_where_samples_have_no_video_the_others_keep_their_own(data: Path, raw: Path, tmp_path: Path, extracted: Path):
    videos, lacking = without(raw, tmp_path / "videos", 5)
    quietly(images_of(data, videos))
    here, whole = only_cache(data, "person-images"), only_cache(extracted, "person-images")
    ours, theirs = columns_of(here), columns_of(whole)
    assert here.failures.keys() == set(lacking)
    for name in set(whole.names) - set(lacking):
        for column in ("jpeg", "video_bytes", "video_frames"):
            assert ours[column][here.row_of[name]] == theirs[column][whole.row_of[name]], (name, column)


def test_where_most_samples_have_no_video_the_folder_may_be_the_wrong_one(data: Path, raw: Path, tmp_path: Path):
    told = list[str]()
    extract_features(images_of(data, without(raw, tmp_path / "half", 12)[0]), quiet, tell=told.append)
    assert len(told) == 1
    shutil.rmtree(data / "person-images")
    extract_features(images_of(data, without(raw, tmp_path / "fewer", 13)[0]), quiet, tell=told.append)
    assert len(told) == 3
    assert told[-1].startswith("warning: that is most of them; is it the right folder, and the right --video-pattern")


def test_where_all_have_a_video_or_nothing_is_to_be_made_nothing_is_told(data: Path, raw: Path, tmp_path: Path):
    """And an old list of those that had none goes."""
    told = list[str]()
    (data / "missing-videos.csv").touch()
    extract_features(images_of(data, raw / "videos"), quiet, tell=told.append)
    assert not (data / "missing-videos.csv").exists()
    extract_features(images_of(data, without(raw, tmp_path / "videos", 5)[0]), quiet, tell=told.append)
    assert told == []


def test_the_same_videos_by_a_pattern_are_the_same(mine: Path, raw: Path, monkeypatch: pytest.MonkeyPatch):
    """A run can be gone on with however its videos are found; other videos of the same names are refused."""
    before = files(mine)
    monkeypatch.setattr("mmcl.pipeline.extraction.plan.find_videos", lambda *args: pytest.fail("not by the pattern"))
    (report,) = quietly(images_of(mine, raw, "videos/{name}.*")).reports
    assert report.note == "reused as it was"
    assert files(mine) == before
    others = Path(shutil.copytree(raw / "videos", mine.parent / "others"))
    (other := min(others.iterdir())).write_bytes(other.read_bytes() + b"longer")
    with pytest.raises(ValueError, match=rf"made from other videos; 1 of 24 differ in size, such as {other}"):
        quietly(images_of(mine, mine.parent, "others/{name}.mp4"))


def test_a_pattern_without_a_folder_is_refused(mine: Path, swap: Request):
    with pytest.raises(ValueError, match="--video-pattern says where the videos are in a folder; give that with --vid"):
        quietly(replace(swap, video_pattern="{name}.mp4"))


def test_skeletons_that_are_not_known_in_the_picture_are_no_boxes(data: Path, raw: Path):
    with pytest.raises(ValueError, match="where its joints are in the picture is not known; give a detector"):
        quietly(Request(data, raw / "videos", "skeleton", None, None, [], 16, "cpu"))


def test_a_detector_that_is_none_is_refused_with_the_way_to_do_without(data: Path, raw: Path, models: Path):
    with pytest.raises(ValueError, match=r"--person .*tiny-resnet.*; or take whole frames with --person frame"):
        quietly(Request(data, raw / "videos", str(models / "tiny-resnet"), None, None, [], 16, "cpu"))


def test_what_is_missing_is_said_before_a_large_model_is_looked_at(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmcl.pipeline.extraction.plan.ENCODERS", {})
    with pytest.raises(ValueError, match="give --videos"):
        quietly(Request(data, None, None, "owner/net", "owner/llm", [QUESTION], 16, "cpu"))


@pytest.mark.usefixtures("no_video_opened")
def test_a_model_that_is_not_there_is_said_before_a_video_is_opened(
    data: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mmcl.pipeline.extraction.plan.find_videos", find_videos)
    with pytest.raises(ValueError, match="absent: no such folder"):
        quietly(Request(data, raw / "videos", "frame", None, str(data / "absent"), [QUESTION], 16, "cpu"))
    assert not (data / "person-images").exists()


def test_each_cache_that_is_made_has_a_bar_with_its_name(mine: Path, swap: Request):
    titles: list[str] = []

    def bar(title: str) -> Callable[[int, int], None]:
        titles.append(title)
        return lambda done, total: None

    extract_features(swap, bar)
    assert titles == ["text features, tiny-llava, holding-object"]


def test_a_run_that_was_asked_to_stop_before_it_began_makes_nothing_and_says_what_is_missing(raw: Path, tmp_path: Path):
    stop = Stop()
    stop.ask()
    data = write_names(tmp_path / "data", [path.stem for path in (raw / "videos").iterdir()])
    eye = Eye()
    found = extract(data, raw / "videos", rgb=eye, stop=stop)
    assert (eye.rows, found.decoded, found.missing) == (0, 0, 24)
    assert [report.note for report in found.reports] == ["reused as it was; 24 are not there yet"] * 2
    assert not list(data.rglob("cache.h5"))


def test_one_cache_that_fails_stops_the_others_and_is_the_one_that_is_heard_of(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What the others have made stays: person images need not be made again."""
    monkeypatch.setattr("mmcl.pipeline.extraction.shard.UNIT", 4)
    data = write_names(tmp_path / "data", [path.stem for path in (raw / "videos").iterdir()])
    eye = Eye(lambda images: mean_of(images) if eye.rows < 6 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(data, raw / "videos", rgb=eye, batch=4)
    (images,), (rgb,) = find_caches(data, "person-images"), find_caches(data, "rgb")
    assert list(images.glob("parts/*.h5"))
    assert len(list(rgb.glob("parts/*.h5"))) == 1
    again = Eye()
    found = extract(data, raw / "videos", rgb=again, batch=4)
    assert again.rows == 20
    assert found.missing == 0
