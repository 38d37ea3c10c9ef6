"""The loop of stage one: every clip once, failures as rows, exact resumption, and no encoder believed."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mmcl.cache.index import open_index
from mmcl.cache.merge import merge
from mmcl.cache.store import create_cache, open_cache, verify, write_part
from mmcl.cache.table import read_table
from mmcl.pipeline.extraction import extract as module
from mmcl.pipeline.extraction.clock import Clock
from mmcl.pipeline.extraction.extract import AHEAD, Input, Pass
from mmcl.pipeline.extraction.images import PersonImages, image_recipe
from mmcl.pipeline.extraction.ledger import Clips, Ledger
from mmcl.pipeline.stop import Stop
from mmcl.pipeline.videos.person import Found, Shot, WholeFrame, from_jpegs, image_layout, to_jpegs
from mmcl.tests.loop import (
    Eye,
    Voice,
    columns_of,
    decoders,
    extract,
    files,
    is_blank,
    mean_of,
    only_cache,
    said_of,
    write_names,
)

STRIP, SINGLE = image_layout("strip"), image_layout("single")
TYPES = {True: "float16", False: "float32"}  # of an encoder that first says one thing, then another


@pytest.fixture(scope="session")
def videos(raw: Path) -> Path:
    return raw / "videos"


@pytest.fixture(scope="session")
def names(videos: Path) -> list[str]:
    return sorted(path.stem for path in videos.iterdir())


@pytest.fixture(scope="session")
def made(videos: Path, names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the strips of all clips. Not to be changed."""
    folder = write_names(tmp_path_factory.mktemp("made") / "acted", names)
    extract(folder, videos)
    return folder


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of `made` to change."""
    return Path(shutil.copytree(made, tmp_path / "acted"))


@pytest.fixture
def new(names: list[str], tmp_path: Path) -> Path:
    """The same data set without any cache."""
    return write_names(tmp_path / "new", names)


@pytest.fixture
def units_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcl.pipeline.extraction.shard.UNIT", 10)


def link(videos: Path, folder: Path, names: Sequence[str], **instead: Path | str) -> Path:
    """A folder of the videos of some clips; for some of them another file, or a file with this text."""
    folder.mkdir()
    for name in names:
        path, other = folder / f"{name}.mp4", instead.get(name, videos / f"{name}.mp4")
        path.symlink_to(other) if isinstance(other, Path) else path.write_text(other)
    return folder


def image(data: Path, name: str) -> np.ndarray:
    rows = only_cache(data, "person-images")
    row = rows.row_of[name]
    return from_jpegs(np.asarray(rows.columns["jpeg"][row]), np.asarray(rows.columns["jpeg_ends"][row]))


def failures(data: Path, kind: str) -> dict[str, str]:
    return only_cache(data, kind).failures


# -- person images


def test_every_clip_has_a_person_image_of_the_papers_size(made: Path, names: list[str]):
    images = only_cache(made, "person-images")
    assert images.names == names
    assert images.failures == {}
    assert image(made, names[0]).shape == (STRIP.size, STRIP.size, 3)
    assert images.array("box").shape == (len(names), STRIP.frames, 4)
    assert not images.array("person_found").any()
    assert (images.array("video_frames") == images.array("claimed_frames")).all()


def test_the_recipe_of_person_images_says_which_videos_and_whose_boxes(made: Path):
    recipe = only_cache(made, "person-images").recipe
    assert recipe == image_recipe("acted", "{name}", STRIP, WholeFrame())
    assert recipe.settings["person"] == "frame"
    assert recipe.key != image_recipe("acted", "{name}_depth", STRIP, WholeFrame()).key
    assert recipe.key != image_recipe("acted", "{name}", SINGLE, WholeFrame()).key


def test_a_bad_clip_is_a_row_with_its_reason_and_the_others_are_as_they_would_be(
    videos: Path, new: Path, made: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The reason reaches the features' cache; whoever looks for people is not asked about a clip without frames."""

    class OnlyReal(WholeFrame):
        def find(self, shots: Sequence[Shot], prepared: None, /) -> list[Found]:
            shown.extend(shot.frames.std() for shot in shots)
            return super().find(shots, prepared)

    shown: list[float] = []
    monkeypatch.setattr("mmcl.pipeline.extraction.wanted.WholeFrame", OnlyReal)
    some = link(videos, tmp_path / "some", [n for n in names if n != names[3]], **{names[8]: "hello"})
    eye, whole = Eye(), Eye()
    extract(new, some, rgb=eye)
    reasons = {names[3]: f"missing: no video {names[3]}", names[8]: "unreadable: not a video"}
    assert failures(new, "person-images") == failures(new, "rgb") == reasons
    extract(data := Path(shutil.copytree(made, tmp_path / "whole")), rgb=whole)
    assert eye.batches == whole.batches == [5, 5, 5, 5, 4]
    assert len(shown) == 1 + 22 and min(shown[1:]) > 1  # the trial's is blank
    found, wanted = (only_cache(folder, "rgb").array("feature") for folder in (new, data))
    for row, name in enumerate(names):
        assert found[row] == (0 if name in reasons else wanted[row])
    images = only_cache(new, "person-images")
    for column in ("box", "video_bytes", "video_frames"):
        assert not images.array(column)[[3, 8]].any()
        assert images.array(column)[4].any()


def test_a_damaged_person_image_fails_its_clip_only(made: Path, new: Path, names: list[str]):
    known = only_cache(made, "person-images")
    columns, _ = read_table(known.folder / "cache.h5")
    own = {name: column for name, column in columns.items() if name not in ("name", "failure")}
    jpegs = [np.array(columns["jpeg"][row]) for row in range(len(names))]
    jpegs[2] = np.frombuffer(b"no picture", np.uint8)
    folder = create_cache(new, known.recipe)
    write_part(folder, 0, names, [""] * len(names), own | {"jpeg": module.Ragged.of(jpegs)})
    extract(new, rgb=Eye())
    assert failures(new, "rgb") == {names[2]: "damaged: 10 bytes that are no JPEG"}


def test_a_person_image_whose_bits_flipped_is_not_looked_at(data: Path, videos: Path, names: list[str]):
    """A JPEG file hides them; the checksum of its row does not. It is made anew when asked."""
    path = only_cache(data, "person-images").folder / "cache.h5"
    jpeg = np.asarray(only_cache(data, "person-images").columns["jpeg"][2]).tobytes()
    content = path.read_bytes()
    place = content.index(jpeg) + len(jpeg) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    extract(data, rgb=Eye())
    assert list(failures(data, "rgb")) == [names[2]]
    assert failures(data, "rgb")[names[2]].startswith("damaged: its person image is no longer what was written")
    assert extract(data, videos, rgb=Eye(), retry=True).decoded == 1
    assert failures(data, "rgb") == failures(data, "person-images") == {}
    assert verify(only_cache(data, "person-images").folder) == []


def test_two_layouts_come_from_one_decode_of_each_video(
    videos: Path, new: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[int]] = []
    read = decoders().read
    monkeypatch.setattr(decoders(), "read", lambda path, counts: asked.append(list(counts)) or read(path, counts))
    strips, fours, singles = Eye(), Voice("a", layout="frames-4"), Voice("b", layout="single")
    found = extract(new, videos, rgb=strips, texts=[fours, singles])
    assert asked == [[5, 4, 1]] * len(names) or asked == [[5, 1, 4]] * len(names)
    assert found.decoded == len(names)
    assert [eye.rows for eye in (strips, fours, singles)] == [24] * 3
    shapes = {}
    for folder in sorted((new / "person-images").iterdir()):
        rows = open_cache(folder)
        layout = rows.recipe.settings["layout"]
        shapes[layout] = from_jpegs(rows.columns["jpeg"][0], np.asarray(rows.columns["jpeg_ends"][0])).shape
    assert shapes == {"strip": (480, 480, 3), "single": (480, 480, 3), "frames-4": (4, 256, 256, 3)}


@pytest.mark.usefixtures("no_video_opened")
def test_a_second_model_opens_no_video_unless_it_needs_a_layout_that_is_not_there(data: Path, videos: Path):
    assert extract(data, texts=[Voice("a")]).decoded == 0
    wanted = "eye wants person images laid out as 'frames-4', which are not there; give --videos, and they are made"
    with pytest.raises(ValueError, match=rf"{wanted}\n  \w{{12}}  strip, person frame, {{name}}"):
        extract(data, rgb=Eye(layout="frames-4"))


@pytest.fixture
def no_video_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*args: object) -> None:
        raise AssertionError("a video was opened")

    monkeypatch.setattr(decoders(), "read", opened)


def test_the_layout_that_is_not_there_is_made_and_the_other_left_alone(data: Path, videos: Path):
    before = files(data)
    eye = Eye(layout="frames-4")
    found = extract(data, videos, rgb=eye)
    assert (found.decoded, eye.rows) == (24, 24)
    assert before.items() <= files(data).items()


# -- features


def test_features_lie_by_name_whatever_the_batch(data: Path, names: list[str]):
    extract(data, rgb=Eye(), batch=7)
    rows = only_cache(data, "rgb")
    for name in names:
        assert rows.array("feature")[rows.row_of[name], 0] == image(data, name).mean(dtype=np.float32)


def test_the_recipe_names_the_person_images_the_features_were_made_from(data: Path):
    extract(data, rgb=Eye())
    wanted = {"model": "eye", "person_images": only_cache(data, "person-images").recipe.key}
    assert only_cache(data, "rgb").recipe.settings == wanted


def test_run_again_it_loads_no_weights_and_touches_no_file(data: Path, videos: Path):
    extract(data, rgb=Eye(), texts=[Voice("a")])
    before = files(data)

    class Heavy(Eye):
        def encode(self, prepared: Any, /) -> Any:
            raise AssertionError("its weights were loaded")

    found = extract(data, videos, rgb=Heavy(), texts=[Heavy(prompt="a")])
    assert [report.note for report in found.reports] == ["reused as it was"] * 3
    assert found.decoded == 0
    assert files(data) == before


def test_several_prompts_read_each_person_image_once(data: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[str] = []
    usual = PersonImages.read
    monkeypatch.setattr(PersonImages, "read", lambda self, name: read.append(name) or usual(self, name))
    texts = [Voice("a"), Voice("b")]
    extract(data, texts=texts)
    assert sorted(read) == sorted(set(read))
    assert [eye.rows for eye in texts] == [24, 24]
    first, added = Voice("a"), Voice("c")
    extract(data, texts=[first, added])
    assert (first.rows, added.rows) == (0, 24)
    assert len(read) == 48


@pytest.mark.usefixtures("units_of_ten")
def test_a_prompt_that_was_begun_alone_is_only_finished(data: Path, names: list[str]):
    """Units that lack rows of one prompt or of both are told apart."""
    alone = Voice("a", lambda images: said_of(images) if alone.rows <= 12 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(data, texts=[alone], batch=4)
    first, second = Voice("a"), Voice("b")
    extract(data, texts=[first, second], batch=4)
    assert (first.batches, second.batches) == ([4, 4, 2, 4], [4, 4, 2, 4, 4, 2, 4])


def test_samples_that_come_later_cost_only_themselves(made: Path, data: Path, names: list[str]):
    write_names(data, names[:10] + names[15:])
    extract(data, rgb=Eye())
    early = columns_of(only_cache(data, "rgb"))["feature"]
    shutil.copy(made / "skeletons.h5", data)
    eye = Eye()
    assert extract(data, rgb=eye).reports[1].note == "made 5 rows"
    assert eye.batches == [5]
    rows = only_cache(data, "rgb")
    assert sorted(rows.names) == names
    assert columns_of(rows)["feature"][: len(early)] == early


def test_a_clip_without_person_image_is_a_failure_with_its_reason(made: Path, names: list[str]):
    recipe = only_cache(made, "person-images").recipe
    images = PersonImages(Clips(made, "acted", names), recipe, Clock(), Stop())
    assert images.read("unknown") == Input(None, "missing: no person image")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda means: {"feature": means[:-1]}, r"eye: 1 pictures gave feature float32 \[0, 1\]; wanted a row a pic"),
        (lambda means: {"feature": means.mean()}, r"gave feature float32 \[\]; wanted"),
        (lambda means: {}, "gave no columns; wanted"),
        (lambda means: means, "gave no columns; wanted"),
        (lambda means: {"said": np.array(["yes"] * len(means))}, r"gave said <U3 \[1\]; wanted .* of numbers or bytes"),
        (lambda means: {"embedding": means}, "eye: gave embedding; training reads feature"),
        (lambda means: {"name": means}, r"gave name float32 \[1, 1\]; wanted .* not called batch or crc or failure or"),
        (lambda means: {"batch": means}, r"gave batch float32 \[1, 1\]; wanted"),
    ],
    ids=[
        "a row short",
        "no rows",
        "nothing",
        "no names",
        "text",
        "unknown to training",
        "our own name",
        "our own column",
    ],
)
def test_an_encoder_that_breaks_its_promise_is_refused_before_anything_is_written(
    data: Path, videos: Path, answer: Any, message: str
):
    before = files(data)
    with pytest.raises(ValueError, match=message):
        extract(data, videos, rgb=Eye(lambda images: answer(mean_of(images)["feature"])))
    assert files(data) == before


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (lambda images: mean_of(images) | {f"of{len(images)}": np.zeros(len(images))}, r"of5 float32 \[\]"),
        (lambda images: {"feature": np.zeros((len(images), len(images)))}, r"feature float32 \[5\]"),
        (lambda images: {"feature": np.zeros((len(images), 1), TYPES[is_blank(images)])}, r"feature float32 \[1\]"),
    ],
    ids=["name", "shape", "type"],
)
def test_columns_that_change_from_batch_to_batch_are_refused_before_a_night_is_lost(
    data: Path, answer: Any, given: str
):
    """They would not fit into one table."""
    with pytest.raises(ValueError, match=rf"eye: gave .*{given}, but before feature float\d\d \[1\].*; nothing is mix"):
        extract(data, rgb=Eye(answer))
    assert not list((data / "rgb").rglob("*.h5"))


def test_an_encoder_that_is_another_than_its_settings_say_adds_no_row(data: Path, made: Path, names: list[str]):
    write_names(data, names[:10])
    extract(data, rgb=Eye())
    shutil.copy(made / "skeletons.h5", data)
    with pytest.raises(ValueError, match=r"eye: gave feature float32 \[2\], but before feature float32 \[1\]; nothing"):
        extract(data, rgb=Eye(lambda images: {"feature": np.zeros((len(images), 2))}))


def test_an_encoder_that_fails_at_once_leaves_nothing(data: Path, new: Path, videos: Path):
    class Broken(Eye):
        def encode(self, prepared: Any, /) -> Any:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        extract(new, videos, rgb=Broken())
    assert [path.name for path in new.iterdir()] == ["skeletons.h5"]


def test_another_encoder_has_another_cache_and_the_first_is_not_touched(data: Path):
    extract(data, rgb=Eye())
    before = files(data)
    extract(data, rgb=Eye(size=2))
    assert len(list((data / "rgb").iterdir())) == 2
    assert before.items() <= files(data).items()


@pytest.mark.usefixtures("units_of_ten")
def test_an_encoder_that_fails_midway_keeps_the_finished_units(data: Path):
    eye = Eye(lambda images: mean_of(images) if eye.rows <= 17 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extract(data, rgb=eye)
    again = Eye()
    extract(data, rgb=again)
    assert again.batches == [5, 5, 4]


@pytest.mark.usefixtures("units_of_ten")
def test_progress_counts_what_is_left_and_ends_at_it(data: Path, videos: Path):
    seen: dict[str, list[tuple[int, int]]] = {}
    extract(
        data, videos, rgb=Eye(), bars=lambda title: lambda *counts: seen.setdefault(title, []).append(counts)
    )  # fmt: skip
    assert seen == {"rgb features, eye": [(0, 24), (10, 24), (20, 24), (24, 24)]}


# -- what runs beside what


@pytest.mark.usefixtures("units_of_ten")
def test_features_of_the_first_unit_are_made_before_a_video_of_the_second_is_decoded(
    videos: Path, new: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
):
    """And each unit's features are those of its own images."""
    looked_at, read = threading.Event(), decoders().read

    def patient(path: Path, counts: Sequence[int]) -> Any:
        assert path.stem != names[10] or looked_at.wait(60)
        return read(path, counts)

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        if eye.rows >= 10:
            looked_at.set()
        return mean_of(images)

    eye = Eye(answer)
    monkeypatch.setattr(decoders(), "read", patient)
    extract(new, videos, rgb=eye)
    rows = only_cache(new, "rgb")
    for name in names:
        assert rows.array("feature")[rows.row_of[name], 0] == image(new, name).mean(dtype=np.float32)
    assert rows.array("image_crc").tolist() == list(only_cache(new, "person-images").checksums.values())


@pytest.mark.usefixtures("units_of_ten")
def test_person_images_that_another_process_merges_meanwhile_are_found_again(videos: Path, new: Path, names: list[str]):
    extract(write_names(new, names[:10]), videos)
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr("mmcl.pipeline.extraction.stage.merge", lambda folder: None)
        extract(write_names(new, names), videos)
    (folder,) = (new / "person-images").iterdir()

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        if eye.rows == 5:
            assert len(list(folder.glob("parts/*.h5"))) == 2
            merge(folder)
        return mean_of(images)

    eye = Eye(answer)
    extract(new, videos, rgb=eye)
    rows = only_cache(new, "rgb")
    assert rows.failures == {}
    for name in names:
        assert rows.array("feature")[rows.row_of[name], 0] == image(new, name).mean(dtype=np.float32)


def test_images_that_cannot_be_made_end_the_work_of_those_who_wait_for_them(
    videos: Path, new: Path, monkeypatch: pytest.MonkeyPatch
):
    class Broken(WholeFrame):
        def find(self, shots: Sequence[Shot], prepared: None, /) -> list[Found]:
            if len(shots) > 1:
                raise RuntimeError("no more people")
            return super().find(shots, prepared)

    monkeypatch.setattr("mmcl.pipeline.extraction.wanted.WholeFrame", Broken)
    eye = Eye()
    with pytest.raises(RuntimeError, match="no more people"):
        extract(new, videos, rgb=eye)
    assert eye.rows == 0


class Picture:
    """What a source reads; told apart from others by nothing but its life."""


class Counting:
    """A source and a target that note how many inputs are read and alive."""

    checksums = None

    def __init__(self, data: Path, names: Sequence[str], made: Path) -> None:
        recipe = only_cache(made, "person-images").recipe
        self.ledger = Ledger(Clips(data, "acted", names), recipe, 4, "cpu")
        self.alive = weakref.WeakSet[Picture]()
        self.read_ahead, self.most_alive, self._begun, self._encoded = 0, 0, 0, 0

    def read(self, name: str, /) -> Input:
        picture = Picture()
        self.alive.add(picture)
        self._begun += 1
        return Input(picture)

    def ready(self, unit: int, /) -> bool:
        return True

    wait = ready

    def written(self, unit: int, parts: Sequence[Path], /) -> None: ...

    def prepare(self, inputs: list[Input], /) -> int:
        return len(inputs)

    def encode(self, prepared: int, inputs: list[Input], /) -> np.ndarray:
        self.read_ahead = max(self.read_ahead, self._begun - self._encoded)
        self.most_alive = max(self.most_alive, len(self.alive))
        self._encoded += prepared
        return np.zeros(prepared)

    def finish(self, encoded: np.ndarray, inputs: list[Input], /) -> module.Columns:
        return {"feature": encoded}

    def close(self, names: list[str], columns: module.Columns, reasons: list[str], /) -> Any:
        return columns, reasons


def test_a_few_batches_are_read_ahead_and_no_more_are_in_memory_however_long_the_unit(made: Path, tmp_path: Path):
    """A clip's frames can be 30 MB; 64 of them in memory would end many a machine."""
    counting = Counting(tmp_path, [str(number) for number in range(200)], made)
    Pass(counting, [counting], 4, Clock()).run(Stop())
    assert counting.read_ahead <= 4 * AHEAD
    assert counting.most_alive <= 4 * (AHEAD + 2)  # one is encoded, one is being finished
    assert len(open_index(counting.ledger.folder).places) == 200


# -- failed clips again, other videos, another batch


def test_units_are_fixed_parts_of_the_list_and_only_what_lacks_a_row_is_left(data: Path, names: list[str]):
    recipe = only_cache(data, "person-images").recipe
    columns = {"feature": np.zeros((2, 1))}
    write_part(create_cache(data, recipe), 99, ["b", "c"], ["", "no"], columns)
    clips, again = Clips(data, "acted", "abcd"), Clips(data, "acted", "abcd", retry=True)
    assert Ledger(clips, recipe, 1, "").pending("abcd") == ["a", "d"]
    assert Ledger(again, recipe, 1, "").pending("abcd") == ["a", "b", "c", "d"]
    assert Ledger(again, recipe, 1, "").pending("ab") == ["a"]
    assert Ledger(again, recipe, 1, "", lambda name: False).pending("abcd") == ["a", "c", "d"]


def test_mended_clips_are_made_anew_when_asked_and_their_neighbours_stay(
    videos: Path, made: Path, new: Path, names: list[str], tmp_path: Path
):
    """The features follow: of the whole unit, so that every other row keeps its bits."""
    broken = link(videos, tmp_path / "broken", names, **{names[4]: "no video"})
    extract(new, broken, rgb=Eye())
    assert list(failures(new, "person-images")) == list(failures(new, "rgb")) == [names[4]]
    before = columns_of(only_cache(new, "rgb"))["feature"]
    assert [report.made for report in extract(new, videos, rgb=Eye()).reports] == [0, 0]
    mended = extract(new, videos, rgb=Eye(), retry=True)
    assert [report.made for report in mended.reports] == [1, 24]
    assert failures(new, "person-images") == failures(new, "rgb") == {}
    assert all(np.array_equal(image(new, name), image(made, name)) for name in names)
    rows = only_cache(new, "rgb")
    after = dict(zip(rows.names, columns_of(rows)["feature"], strict=True))
    assert [after[name] != was for name, was in zip(names, before, strict=True)] == [n == names[4] for n in names]
    assert [report.made for report in extract(new, rgb=Eye()).reports] == [0, 0]


def test_an_image_that_was_made_anew_has_its_features_made_anew_without_being_asked(
    videos: Path, new: Path, names: list[str], tmp_path: Path
):
    broken = link(videos, tmp_path / "broken", names, **{names[4]: "no video"})
    extract(new, broken, rgb=Eye())
    extract(new, videos, retry=True)
    eye = Eye()
    extract(new, rgb=eye)
    assert eye.rows == 24
    assert failures(new, "rgb") == {}


def test_features_follow_their_person_images(videos: Path, data: Path, names: list[str], tmp_path: Path):
    """The recipe is the same when person images are made anew from other videos; the features are not."""
    extract(data, rgb=Eye())
    was = only_cache(data, "rgb").array("feature")
    shutil.move(data / "person-images", tmp_path / "moved-away")
    swapped = link(videos, tmp_path / "swapped", names, **{names[0]: videos / f"{names[1]}.mp4"})
    assert extract(data, swapped, rgb=Eye()).reports[1].made > 0
    rows = only_cache(data, "rgb")
    feature = rows.array("feature")[[rows.row_of[name] for name in names]]
    assert feature[0] == was[1] != was[0]
    assert (feature[1:] == was[1:]).all()


def test_a_folder_with_the_mended_videos_alone_does_no_harm(videos: Path, new: Path, names: list[str], tmp_path: Path):
    """Only the failed clips are read again: the others need not be there."""
    extract(new, link(videos, tmp_path / "without", [name for name in names if name != names[4]]))
    assert list(failures(new, "person-images")) == [names[4]]
    found = extract(new, link(videos, tmp_path / "alone", [names[4]]), retry=True)
    assert (found.decoded, found.reports[0].made) == (1, 1)
    assert failures(new, "person-images") == {}


def test_a_clip_that_left_the_data_set_is_no_failure_of_it(videos: Path, new: Path, names: list[str], tmp_path: Path):
    extract(new, link(videos, tmp_path / "without", [name for name in names if name != names[4]]))
    write_names(new, [name for name in names if name != names[4]])
    assert extract(new, videos).reports[0].failures == {}


def test_other_videos_of_the_same_names_are_refused(videos: Path, data: Path, names: list[str], tmp_path: Path):
    longer = tmp_path / "longer.mp4"
    longer.write_bytes((videos / f"{names[0]}.mp4").read_bytes() + b"longer")
    changed = link(videos, tmp_path / "changed", names, **{names[0]: longer})
    with pytest.raises(ValueError, match=rf"made from other videos; 1 of 24 differ in size, such as .*{names[0]}\.mp4"):
        extract(data, changed)


def test_a_cache_goes_on_with_the_batch_it_was_begun_with(data: Path, made: Path, names: list[str]):
    """Features depend on the batch in their last digits; nothing is mixed."""
    write_names(data, names[:10])
    extract(data, rgb=Eye(), batch=5)
    shutil.copy(made / "skeletons.h5", data)
    with pytest.raises(ValueError, match="begun with --batch 5; its features depend on it, so go on with it"):
        extract(data, rgb=Eye(), batch=4)
    assert extract(data, rgb=Eye(), batch=5).reports[1].made == 14


# -- too little memory


SHORT = torch.OutOfMemoryError("CUDA out of memory.\nMore lines")


class Small(Eye):
    """A device whose memory holds so many images."""

    def __init__(self, most: int, answer: Any = mean_of, shortage: Exception = SHORT, **settings: Any) -> None:
        super().__init__(answer, **settings)
        self.most, self.asked, self._shortage = most, 0, shortage

    def encode(self, prepared: np.ndarray, /) -> Any:
        self.asked = max(self.asked, len(prepared))
        if len(prepared) > self.most:
            raise self._shortage
        return super().encode(prepared)


@pytest.mark.parametrize("shortage", [SHORT, RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), MemoryError()])
def test_out_of_memory_the_batch_is_halved_the_unit_redone_and_the_rows_say_so(data: Path, shortage: Exception):
    found = extract(data, rgb=Small(3, shortage=shortage), batch=16)
    rows = only_cache(data, "rgb")
    assert found.reports[1].note == "made 24 rows"
    assert set(rows.array("batch")) == {2}
    index = open_index(rows.folder)
    assert (index.batch, index.fit) == (16, 2)


@pytest.mark.usefixtures("units_of_ten")
def test_what_was_written_before_memory_ran_out_stays(data: Path):
    """Only the unit in flight is made again."""

    def shrink(images: np.ndarray) -> dict[str, np.ndarray]:
        eye.most = 5 if eye.rows < 13 else 2
        return mean_of(images)

    eye = Small(5, shrink)
    extract(data, rgb=eye, batch=5)
    assert eye.batches == [5, 5, 5, *[2] * 5, 2, 2]
    assert only_cache(data, "rgb").array("batch").tolist() == [5] * 10 + [2] * 14


@pytest.mark.usefixtures("units_of_ten")
def test_the_batch_that_held_is_remembered_by_the_next_run(data: Path):
    """Also by one that follows a crash, and by prompts that are made beside it."""
    first = Small(3, lambda images: said_of(images) if first.rows <= 10 else 1 / 0, prompt="a")
    with pytest.raises(ZeroDivisionError):
        extract(data, texts=[first], batch=8)
    again, beside = Small(3, said_of, prompt="a"), Small(3, said_of, prompt="b")
    extract(data, texts=[again, beside], batch=8)
    assert set(again.batches + beside.batches) == {again.asked, beside.asked} == {2}
    for folder in (data / "text").iterdir():
        assert set(open_cache(folder).array("batch")) == {2}


@pytest.mark.parametrize("most", [0, 1])
def test_one_clip_that_does_not_fit_is_one_clear_line(data: Path, most: int):
    """Found out on the blank image of the trial, or later, on a real one."""
    eye = Small(most, lambda images: mean_of(images) if is_blank(images) else eye.encode(np.stack([images] * 2)))
    line = r"out of memory with one clip a batch \(CUDA out of memory\.\); take a smaller model, another --device, or"
    with pytest.raises(RuntimeError, match=line) as error:
        extract(data, rgb=eye, batch=4)
    assert "\n" not in str(error.value)


# -- other versions


@pytest.fixture
def begun(data: Path, made: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Features of the first ten clips were made with another torch."""
    write_names(data, names[:10])
    with monkeypatch.context() as earlier:
        earlier.setattr("mmcl.pipeline.extraction.ledger.library_versions", lambda: {"numpy": "2.4", "torch": "2.11"})
        extract(data, rgb=Eye())
    monkeypatch.setattr("mmcl.pipeline.extraction.ledger.library_versions", lambda: {"numpy": "2.4", "torch": "2.13"})
    return data


def test_every_part_notes_the_versions_and_the_device_that_made_it(data: Path):
    extract(data, rgb=Eye())
    (noted,) = open_index(only_cache(data, "rgb").folder).libraries
    assert noted["device"] == "cpu"
    assert {"numpy", "opencv-python", "torch", "transformers"} <= noted.keys()
    assert noted["torch"] == torch.__version__.split("+")[0] or noted["torch"] == torch.__version__
    (images,) = open_index(only_cache(data, "person-images").folder).libraries
    assert "device" not in images  # no network made them


def test_a_resume_under_other_versions_is_refused_with_the_flag_that_accepts_it(begun: Path, made: Path):
    shutil.copy(made / "skeletons.h5", begun)
    said = r"begun with torch 2\.11, here 2\.13; rows made now may differ .* or say --accept-versions"
    eye = Eye()
    with pytest.raises(ValueError, match=said):
        extract(begun, rgb=eye)
    assert eye.rows == 0
    assert extract(begun, rgb=eye, accept=True).reports[1].made == 14
    noted = open_index(only_cache(begun, "rgb").folder).libraries
    assert [one["torch"] for one in noted] == ["2.11", "2.13"]


def test_a_complete_cache_is_used_under_any_versions(begun: Path):
    assert extract(begun, rgb=Eye()).reports[1].note == "reused as it was"


# -- the disk


@pytest.mark.parametrize(("free", "fits"), [(75_000_000, True), (68_000_000, False)])
def test_a_disk_that_is_too_small_is_said_before_the_start(
    videos: Path, new: Path, monkeypatch: pytest.MonkeyPatch, free: int, fits: bool
):
    """24 strips are at most 2.2 MB of JPEG files, written as parts and as one table; 67 MB are to stay free."""
    monkeypatch.setattr("mmcl.pipeline.extraction.stage.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    if fits:
        assert extract(new, videos).reports[0].made == 24
        return
    with pytest.raises(OSError, match="about 72 MB are needed and 68 MB are free; free some space"):
        extract(new, videos)
    assert [path.name for path in new.iterdir()] == ["skeletons.h5"]


def test_jpeg_files_keep_their_pictures(made: Path, names: list[str]):
    """What is in the cache is what the encoder is shown, to the bit, however often it is opened."""
    picture = image(made, names[0])
    again = from_jpegs(*to_jpegs(picture))
    assert np.abs(again.astype(int) - picture).mean() < 2
