"""The loop of stage one: resumes exactly, keeps failures as rows, and believes no encoder."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcl.cache.store import Rows, create_cache, open_cache, write_part
from mmcl.cache.table import read_table
from mmcl.pipeline import extract
from mmcl.pipeline.extract import Clips, Filled, fill_features, fill_person_images, pending_units, person_recipe
from mmcl.pipeline.person import FRAMES, SIZE, WholeFrame, from_jpeg
from mmcl.pipeline.video import Videos, find_videos

ENCODERS = '''
import numpy as np

class Mixing:
    """Its rows depend on the whole batch, as those of a large model do in their last digits."""
    settings, layout = {"model": "mixing"}, "strip"

    def __init__(self, device):
        pass

    def encode(self, images):
        means = np.array([image.reshape(-1, 3).mean(0) for image in images], np.float32)
        return {"feature": means + means.mean(0) / 8 + len(images)}
'''

RUN = """
import os, time
from mmcl.pipeline import extract
from mmcl.cli import main
fsync, extract.UNIT = os.fsync, 4
def slow(handle):
    time.sleep(PAUSE)
    fsync(handle)
os.fsync = slow
main()
"""
KILLS = [  # when the so many-th such file is there: between units, while a unit is written, while all are merged
    ("person-images/*/parts/*.h5", 2),
    ("person-images/*/parts/*.tmp", 1),
    ("person-images/*/cache.h5.*.tmp", 1),
    ("rgb/*/parts/*.h5", 3),
    ("rgb/*/parts/*.tmp", 1),
    ("rgb/*/cache.h5.*.tmp", 1),
]


class Eye:
    """An encoder that keeps what it was shown; `answer` makes columns from the pictures' means [n]."""

    settings: Mapping[str, Any] = {"model": "eye"}
    layout = "strip"

    def __init__(self, answer: Callable[[np.ndarray], Any] = lambda means: {"feature": means[:, None]}) -> None:
        self._answer = answer
        self.shown: list[np.ndarray] = []

    def encode(self, images: Sequence[np.ndarray], /) -> dict[str, np.ndarray]:
        means = np.array([image.mean() for image in images], np.float32)
        self.shown.append(means)
        return self._answer(means)


def ignore(done: int, total: int) -> None:
    pass


def columns_of(rows: Rows) -> dict[str, list[bytes]]:
    """Every column's rows as bytes, by name."""
    return {
        name: [np.asarray(column[row]).tobytes() for row in range(len(column))] for name, column in rows.columns.items()
    }


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    """Contents and time of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(f.relative_to(folder)): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns) for f in files
    }


@pytest.fixture(scope="session")
def videos(raw: Path) -> Videos:
    folder = raw / "videos"
    return find_videos(folder, sorted(path.stem for path in folder.iterdir()))


@pytest.fixture(scope="session")
def names(videos: Videos) -> list[str]:
    return sorted(videos.paths)


@pytest.fixture(scope="session")
def made(videos: Videos, names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the person images of all clips. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    fill_person_images(Clips(folder, "acted", names), videos, WholeFrame(), ignore)
    return folder


@pytest.fixture(scope="session")
def images(made: Path) -> Rows:
    return open_cache(next((made / "person-images").iterdir()))


@pytest.fixture
def fill(images: Rows, names: list[str], tmp_path: Path) -> Callable[..., Filled]:
    """Fills a feature cache of the test's own from the shared person images."""

    def run(encoder: Any, *, batch: int = 5, only: list[str] | None = None, kind: str = "rgb") -> Filled:
        return fill_features(
            Clips(tmp_path, "acted", only or names), kind, images, encoder, batch=batch, progress=ignore
        )

    return run


# -- person images


def test_every_clip_has_a_person_image_of_the_papers_size(images: Rows, names: list[str]):
    assert images.names == names
    assert images.failures == {}
    assert from_jpeg(images.columns["jpeg"][0]).shape == (SIZE, SIZE, 3)
    assert images.array("box").shape == (len(names), FRAMES, 4)
    assert not images.array("person_found").any()


def test_the_recipe_of_person_images_says_which_videos_and_whose_boxes(images: Rows, videos: Videos):
    assert images.recipe == person_recipe("acted", "{name}", WholeFrame())
    assert images.recipe.settings["person"] == "frame"
    assert images.recipe.key != person_recipe("acted", "{name}_depth", WholeFrame()).key


def test_a_bad_clip_is_a_row_with_its_reason_and_the_others_are_as_they_would_be(
    images: Rows, videos: Videos, names: list[str], tmp_path: Path
):
    """The reason reaches the features' cache; no detector is asked about a clip without frames."""

    class OnlyReal(WholeFrame):
        def find(self, frames: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
            assert frames.shape[1] > 1
            return super().find(frames)

    (tmp_path / "text.mp4").write_text("hello")
    paths = {name: path for name, path in videos.paths.items() if name != names[3]} | {names[8]: tmp_path / "text.mp4"}
    broken = Videos(paths, videos.pattern)
    found = fill_person_images(Clips(tmp_path, "acted", names), broken, OnlyReal(), ignore)
    reasons = {names[3]: f"missing: no video {names[3]}", names[8]: "unreadable: not a video"}
    assert found.failures == reasons
    encoder, whole = Eye(), Eye()
    features = fill_features(Clips(tmp_path, "acted", names), "rgb", found.rows, encoder, batch=5, progress=ignore)
    assert features.failures == reasons
    reference = fill_features(
        Clips(tmp_path / "ok", "acted", names), "rgb", images, whole, batch=5, progress=ignore
    ).rows
    assert [len(batch) for batch in encoder.shown] == [len(batch) for batch in whole.shown] == [5, 5, 5, 5, 4]
    for row, name in enumerate(names):
        wanted = 0 if name in reasons else reference.array("feature")[row]
        assert features.rows.array("feature")[row] == wanted
    assert not found.rows.array("box")[[3, 8]].any()


def test_a_damaged_person_image_fails_its_clip_only(images: Rows, names: list[str], tmp_path: Path):
    folder = create_cache(tmp_path, images.recipe)
    columns, _ = read_table(images.folder / "cache.h5")
    own = {name: column for name, column in columns.items() if name not in extract.OUR_COLUMNS}
    jpegs = [np.array(own["jpeg"][row]) for row in range(len(names))]
    jpegs[2] = np.frombuffer(b"no picture", np.uint8)
    write_part(folder, 0, names, [""] * len(names), own | {"jpeg": extract.Ragged.of(jpegs)})
    rows = extract.merge(folder)
    found = fill_features(Clips(tmp_path, "acted", names), "rgb", rows, Eye(), batch=5, progress=ignore)
    assert found.failures == {names[2]: "damaged: 10 bytes that are no JPEG"}


# -- features


def test_features_lie_by_name_whatever_the_batch(fill: Callable[..., Filled], images: Rows, names: list[str]):
    rows = fill(Eye(), batch=7).rows
    for name in names:
        picture = from_jpeg(images.columns["jpeg"][images.row_of[name]])
        assert rows.array("feature")[rows.row_of[name], 0] == np.float32(picture.mean())


def test_the_recipe_names_the_person_images_the_features_were_made_from(fill: Callable[..., Filled], images: Rows):
    assert fill(Eye()).rows.recipe.settings == {"model": "eye", "person_images": images.recipe.key}


def test_run_again_it_asks_the_encoder_nothing_and_touches_no_file(fill: Callable[..., Filled], tmp_path: Path):
    assert fill(Eye()).made == 24
    before, encoder = digest(tmp_path), Eye()
    assert fill(encoder).made == 0
    assert encoder.shown == []
    assert digest(tmp_path) == before


def test_samples_that_come_later_only_cost_themselves(fill: Callable[..., Filled], names: list[str]):
    early = columns_of(fill(Eye(), only=names[:10] + names[15:]).rows)
    encoder = Eye()
    found = fill(encoder)
    assert found.made == sum(map(len, encoder.shown)) == 5
    assert sorted(found.rows.names) == names
    assert columns_of(found.rows)["feature"][: len(early["feature"])] == early["feature"]


def test_a_clip_without_person_image_is_a_failed_row(fill: Callable[..., Filled], names: list[str]):
    assert fill(Eye(), only=[*names, "unknown"]).failures == {"unknown": "missing: no person image"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_makes_a_failed_row_of_zeros(fill: Callable[..., Filled], names: list[str], value: float):
    def answer(means: np.ndarray) -> dict[str, np.ndarray]:
        feature = np.stack([means, means], 1)
        feature[1, 1] = value
        return {"feature": feature, "ids": np.full((len(means), 2), 7), "said": np.full(len(means), b"yes")}

    found = fill(Eye(answer), batch=12)
    assert found.failures == dict.fromkeys((names[1], names[13]), "not finite: feature")
    assert not found.rows.array("feature")[[1, 13]].any()
    assert not found.rows.array("ids")[[1, 13]].any()
    assert found.rows.array("said")[:3].tolist() == [b"yes", b"", b"yes"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda means: {"feature": means[:-1, None]},
            r"eye: 5 pictures gave feature float32 \[4, 1\]; wanted a row a pic",
        ),
        (lambda means: {"feature": means.mean()}, r"gave feature float32 \[\]; wanted"),
        (lambda means: {}, "gave no columns; wanted"),
        (lambda means: {"said": np.array(["yes"] * len(means))}, r"gave said <U3 \[5\]; wanted .* of numbers or bytes"),
        (lambda means: {"name": means}, r"gave name float32 \[5\]; wanted .* not called name or failure or crc"),
        (
            lambda means: {f"feature{len(means)}": means},
            r"gave columns \['feature5'\] for one batch, others for another",
        ),
    ],
    ids=["a row short", "no rows", "nothing", "text", "our own name", "changing"],
)
def test_an_encoder_that_breaks_its_promise_is_refused(
    fill: Callable[..., Filled], tmp_path: Path, answer: Callable[[np.ndarray], Any], message: str
):
    with pytest.raises(ValueError, match=message):
        fill(Eye(answer))
    assert not list(tmp_path.rglob("*.h5"))


def test_an_encoder_of_another_layout_is_refused(fill: Callable[..., Filled]):
    encoder = Eye()
    encoder.layout = "single"
    with pytest.raises(ValueError, match="eye: wants person images laid out as 'single', these are 'strip'"):
        fill(encoder)


def test_another_encoder_has_another_cache_and_the_first_is_not_touched(fill: Callable[..., Filled]):
    first = fill(Eye())
    before, other = digest(first.rows.folder), Eye()
    other.settings = {"model": "other"}
    assert fill(other).rows.folder != first.rows.folder
    assert digest(first.rows.folder) == before


def test_units_are_fixed_parts_of_the_list_and_only_what_lacks_a_row_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extract, "UNIT", 3)
    assert pending_units(list("abcdefgh"), set("abcf"), set(), whole=True) == [(1, ["d", "e"]), (2, ["g", "h"])]
    assert pending_units(list("abcdefgh"), set("abcdefgh"), {"e"}, whole=True) == [(1, ["d", "e", "f"])]
    assert pending_units(list("abcdefgh"), set("abcdefgh"), {"e"}, whole=False) == [(1, ["e"])]
    assert pending_units(list("abc"), set("abc"), set(), whole=True) == []


def test_an_encoder_that_fails_midway_keeps_the_finished_units(
    fill: Callable[..., Filled], monkeypatch: pytest.MonkeyPatch, names: list[str]
):
    monkeypatch.setattr(extract, "UNIT", 10)
    encoder = Eye(lambda means: {"feature": means[:, None]} if len(encoder.shown) < 4 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fill(encoder)
    again = Eye()
    assert fill(again).made == 14
    assert sum(map(len, again.shown)) == 14


def test_progress_counts_what_is_left_and_ends_at_it(images: Rows, names: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.setattr(extract, "UNIT", 10)
    seen: list[tuple[int, int]] = []
    fill_features(
        Clips(tmp_path, "acted", names),
        "rgb",
        images,
        Eye(),
        batch=5,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(0, 24), (10, 24), (20, 24), (24, 24)]


def test_only_a_few_clips_are_read_ahead_of_the_encoder(monkeypatch: pytest.MonkeyPatch):
    """So that memory stays the same however many clips there are."""
    read: list[str] = []
    stage = extract.Stage(
        person_recipe("acted", "{name}", WholeFrame()),
        lambda name: read.append(name) or extract.Input(np.zeros(1)),
        lambda inputs: {},
        ahead=6,
    )
    inputs = extract._read_ahead([str(number) for number in range(100)], stage)
    next(inputs)
    time.sleep(0.05)
    assert len(read) <= 7
    inputs.close()


# -- failed clips again, other videos, another batch


def test_mended_clips_are_made_anew_when_asked_and_their_neighbours_stay(
    images: Rows, videos: Videos, names: list[str], tmp_path: Path
):
    """Their whole unit runs again, so that every other row keeps its bits; the features follow."""
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    clips, bad = Clips(tmp_path, "acted", names), Videos({**videos.paths, names[4]: broken}, videos.pattern)
    found = fill_person_images(clips, bad, WholeFrame(), ignore)
    features = fill_features(clips, "rgb", found.rows, Eye(), batch=5, progress=ignore)
    assert list(found.failures) == list(features.failures) == [names[4]]
    assert fill_person_images(clips, videos, WholeFrame(), ignore).made == 0
    retry = Clips(tmp_path, "acted", names, retry=True)
    mended = fill_person_images(retry, videos, WholeFrame(), ignore)
    assert (mended.failures, mended.made) == ({}, 1)
    assert all(np.array_equal(jpeg(mended.rows, name), jpeg(images, name)) for name in names)
    again = fill_features(clips, "rgb", mended.rows, Eye(), batch=5, progress=ignore)
    assert again.failures == {} and len(again.rows.names) == len(names)
    assert fill_features(clips, "rgb", mended.rows, Eye(), batch=5, progress=ignore).made == 0


def test_features_follow_their_person_images(images: Rows, videos: Videos, names: list[str], tmp_path: Path):
    """The recipe is the same when person images are made anew from other videos; the features are not."""
    clips = Clips(tmp_path, "acted", names)
    first = fill_person_images(clips, videos, WholeFrame(), ignore)
    before = fill_features(clips, "rgb", first.rows, Eye(), batch=5, progress=ignore).rows
    shutil.move(first.rows.folder, tmp_path / "moved-away")
    swapped = Videos({**videos.paths, names[0]: videos.paths[names[1]]}, videos.pattern)
    other = fill_person_images(clips, swapped, WholeFrame(), ignore)
    after = fill_features(clips, "rgb", other.rows, Eye(), batch=5, progress=ignore)
    assert after.made > 0
    feature, was = after.rows.array("feature"), before.array("feature")
    assert not np.array_equal(feature[after.rows.row_of[names[0]]], was[before.row_of[names[0]]])
    assert np.array_equal(feature[after.rows.row_of[names[2]]], was[before.row_of[names[2]]])


def test_a_folder_with_the_mended_videos_alone_does_no_harm(videos: Videos, names: list[str], tmp_path: Path):
    """Only the failed clips are read again: the others need not be there."""
    clips = Clips(tmp_path, "acted", names)
    without = Videos({name: path for name, path in videos.paths.items() if name != names[4]}, videos.pattern)
    assert list(fill_person_images(clips, without, WholeFrame(), ignore).failures) == [names[4]]
    alone = Videos({names[4]: videos.paths[names[4]]}, videos.pattern)
    found = fill_person_images(Clips(tmp_path, "acted", names, retry=True), alone, WholeFrame(), ignore)
    assert (found.failures, found.made) == ({}, 1)


def test_a_clip_that_left_the_data_set_is_no_failure_of_it(videos: Videos, names: list[str], tmp_path: Path):
    without = Videos({name: path for name, path in videos.paths.items() if name != names[4]}, videos.pattern)
    fill_person_images(Clips(tmp_path, "acted", names), without, WholeFrame(), ignore)
    rest = [name for name in names if name != names[4]]
    assert fill_person_images(Clips(tmp_path, "acted", rest), without, WholeFrame(), ignore).failures == {}


def jpeg(rows: Rows, name: str) -> np.ndarray:
    return rows.columns["jpeg"][rows.row_of[name]]


def test_other_videos_of_the_same_names_are_refused(images: Rows, videos: Videos, names: list[str], tmp_path: Path):
    clips = Clips(tmp_path, "acted", names)
    fill_person_images(clips, videos, WholeFrame(), ignore)
    other = tmp_path / "other.mp4"
    other.write_bytes(videos.paths[names[0]].read_bytes() + b"longer")
    changed = Videos({**videos.paths, names[0]: other}, videos.pattern)
    with pytest.raises(ValueError, match=r"made from other videos; 1 of 24 differ in size, such as .*other\.mp4"):
        fill_person_images(clips, changed, WholeFrame(), ignore)


def test_a_cache_goes_on_with_the_batch_it_was_begun_with(images: Rows, names: list[str], tmp_path: Path):
    """Features depend on the batch in their last digits; nothing is mixed."""
    fill_features(Clips(tmp_path, "acted", names[:10]), "rgb", images, Eye(), batch=5, progress=ignore)
    clips = Clips(tmp_path, "acted", names)
    with pytest.raises(ValueError, match="begun with --batch 5; its features depend on it, so go on with it"):
        fill_features(clips, "rgb", images, Eye(), batch=4, progress=ignore)
    assert fill_features(clips, "rgb", images, Eye(), batch=5, progress=ignore).made == 14


def test_an_encoder_that_fails_at_once_leaves_nothing(images: Rows, names: list[str], tmp_path: Path):
    class Broken(Eye):
        def encode(self, images: Any) -> Any:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fill_features(Clips(tmp_path, "acted", names), "rgb", images, Broken(), batch=5, progress=ignore)
    assert not list(tmp_path.iterdir())


# -- kill -9


def run(data: Path, raw: Path, cwd: Path, pause: float) -> subprocess.Popen[bytes]:
    options = [
        "--videos",
        raw / "videos",
        "--person",
        "frame",
        "--rgb",
        "eyes:Mixing",
        "--batch",
        "3",
        "--device",
        "cpu",
    ]
    script = RUN.replace("PAUSE", str(pause))
    command = [sys.executable, "-c", script, "extract-features", data, *options]
    return subprocess.Popen(list(map(str, command)), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_when(process: subprocess.Popen[bytes], data: Path, pattern: str, count: int) -> None:
    until = time.monotonic() + 60
    while len(list(data.glob(pattern))) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    error = process.communicate()[1].decode()
    assert (process.returncode, error) == (-signal.SIGKILL, "")


def parts(caches: Path) -> dict[str, tuple[int, int]]:
    """What tells a part file from one that was written again."""
    stats = {path: path.stat() for path in caches.glob("*/parts/*.h5")}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_after_any_number_of_kills_the_caches_equal_those_of_an_unbroken_run(data: Path, raw: Path, tmp_path: Path):
    """Bit by bit, with an encoder whose rows depend on their batch; and no finished unit was made twice."""
    (tmp_path / "eyes.py").write_text(ENCODERS)
    unbroken = Path(shutil.copytree(data, tmp_path / "unbroken"))
    whole = run(unbroken, raw, tmp_path, 0)
    for pattern, count in KILLS:
        kind = pattern.split("/")[0]
        before = parts(data / kind)
        kill_when(run(data, raw, tmp_path, 0.1), data, pattern, count)
        assert before.items() <= parts(data / kind).items()
        assert not list(data.glob(f"{kind}/*/cache.h5"))
    last = run(data, raw, tmp_path, 0)
    for process in (whole, last):
        error = process.communicate(timeout=120)[1].decode()
        assert (process.returncode, error) == (0, "")
    for kind in ("person-images", "rgb"):
        broken, wanted = (open_cache(next((folder / kind).iterdir())) for folder in (data, unbroken))
        assert (broken.recipe, broken.names) == (wanted.recipe, wanted.names)
        assert columns_of(broken) == columns_of(wanted)
        assert not list(broken.folder.glob("parts/*.h5"))
