"""What may go wrong on a long night: kills, signals, two runs at once, broken clips, full and read-only disks."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcl.cache.index import open_index
from mmcl.cache.store import create_cache, find_caches, open_cache
from mmcl.cache.table import read_table
from mmcl.pipeline.extraction.shard import Shard
from mmcl.tests.loop import Eye, columns_of, decoders, extract, files, only_cache, write_names
from mmcl.tests.soak import MIXING, UNIT, Life, Writer, Writers, begin, live, soak

GATED = "own:Gated"
CLIPS = Path(__file__).parent / "clips"
HEARD = "finishing what is in flight; once more to stop at once"
AGAIN = "run the same command again, it goes on"
FULL = "the disk is full; free some space and run the same command again"
MOMENTS = [  # when the so many-th such file is there: between units, while one is written, while all are merged
    "person-images/*/parts/*.h5 2",
    "person-images/*/parts/*.tmp 1",
    "rgb/*/parts/*.h5 3",
    "rgb/*/parts/*.tmp 1",
    "person-images/*/cache.h5.*.tmp 1",
    "rgb/*/cache.h5.*.tmp 1",
]
RUN = f"""
import sys
from mmcl.pipeline.extraction import shard
from mmcl.cli import main
shard.UNIT, sys.argv[0] = {UNIT}, "mmcl"
main()
"""


@pytest.fixture(scope="module")
def videos(raw: Path) -> Path:
    return raw / "videos"


@pytest.fixture(scope="module")
def names(videos: Path) -> list[str]:
    return sorted(path.stem for path in videos.iterdir())


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writers]:
    started = Writers(tmp_path_factory.mktemp("writers"))
    yield started
    started.close()


@pytest.fixture
def life(videos: Path, names: list[str], tmp_path: Path) -> Life:
    return begin(tmp_path / "life", videos, names)


@pytest.fixture(scope="module")
def unbroken(writers: Writers, videos: Path, names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    """What comes of a run that nothing happens to. Not to be changed."""
    life = begin(tmp_path_factory.mktemp("unbroken") / "life", videos, names)
    return live(life, writers, MIXING, GATED)


def gated(life: Life, *more: str) -> list[object]:
    return [GATED if word == MIXING else word for word in life.words(*more)]


def ended(writer: Writer, code: int) -> Writer:
    assert (writer.wait(), writer.error) == (code, "") if code == 0 else writer.wait() == code, writer.error
    return writer


def wait_for(what: Callable[[], object], why: str = "") -> None:
    until = time.monotonic() + 100
    while not what():
        assert time.monotonic() < until, f"waited in vain {why}"
        time.sleep(0.005)


def parts(life: Life, kind: str) -> list[Path]:
    return sorted(life.data.glob(f"{kind}/*/parts/*.h5"))


def assert_equal(life: Life, unbroken: Life, model: str) -> None:
    """Columns and rows are the same to the bit, and nothing half-made is left."""
    for kind in ("person-images", "rgb"):
        found, wanted = (opened(one.data, kind, model) for one in (life, unbroken))
        assert found.recipe == wanted.recipe
        assert columns_of(found) == columns_of(wanted)
        assert [path.name for path in found.folder.rglob("*.*") if path.suffix in (".h5", ".tmp")] == ["cache.h5"]


def opened(data: Path, kind: str, model: str):
    found = [open_cache(folder) for folder in find_caches(data, kind)]
    return next(rows for rows in found if kind != "rgb" or rows.recipe.model == model)


# -- kill -9


def test_kills_at_random_moments_over_two_writers_lose_nothing_but_the_units_in_flight(
    writers: Writers, unbroken: Life, tmp_path: Path
):
    """Five here, fifty with `make soak`; it looks at bytes, duplicates, and how much was made twice."""
    assert re.fullmatch(r"[56] kills in \d lives: nothing lost, .*", soak(5, tmp_path, unbroken, writers))


def test_a_kill_at_each_stage_of_the_work_loses_nothing(writers: Writers, life: Life, unbroken: Life):
    """Between units, while one is written, while all are merged; and no finished unit is made twice."""
    for moment in MOMENTS:
        before = life.parts()
        writer = writers.start(life.folder, life.words(), hold=f"data/{moment}")
        wait_for((life.folder / "held").exists, moment)
        writer.kill()
        assert (writer.wait(), writer.error) == (-signal.SIGKILL, "")
        (life.folder / "held").unlink()
        assert before.items() <= life.parts().items() or "rgb/*/cache" in moment  # the images' were merged then
        kind = moment.split("/")[0]
        assert not list(life.data.glob(f"{kind}/*/cache.h5"))
    ended(writers.start(life.folder, life.words()), 0)
    assert_equal(life, unbroken, "mixing")


# -- signals


def held_after(writers: Writers, life: Life, batches: int) -> Writer:
    """A run that waits in the middle of a unit, with so many batches of features made."""
    gate = life.folder / "gate"
    gate.write_text(str(batches))
    writer = writers.start(life.folder, gated(life))
    wait_for(lambda: len(parts(life, "rgb")) == batches // 2 and (life.folder / "rank-0").exists())
    wait_for(lambda: len(parts(life, "person-images")) == 6)
    return writer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_after_the_unit_in_flight_and_says_how_to_go_on(
    writers: Writers, life: Life, unbroken: Life, number: int, code: int
):
    writer = held_after(writers, life, 3)
    writer.kill(number)
    wait_for(lambda: HEARD in writer.error)
    assert len(parts(life, "rgb")) == 1
    (life.folder / "gate").unlink()
    ended(writer, code)
    assert writer.error == f"\n{HEARD}\nmmcl: stopped after a whole unit; {AGAIN}\n"
    assert "rgb" in writer.out and "made 8 rows; 16 are not there yet" in writer.out
    assert len(parts(life, "rgb")) == 2
    assert not list(life.data.rglob("*.tmp"))
    again = ended(writers.start(life.folder, gated(life)), 0)
    assert "made 16 rows" in again.out
    assert_equal(life, unbroken, "gated")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_of_either_kind_ends_it_at_once(writers: Writers, life: Life, unbroken: Life, second: int):
    writer = held_after(writers, life, 3)
    writer.kill(signal.SIGTERM)
    wait_for(lambda: HEARD in writer.error)
    writer.kill(second)
    assert writer.wait() == -second
    assert len(parts(life, "rgb")) == 1
    (life.folder / "gate").unlink()
    ended(writers.start(life.folder, gated(life)), 0)
    assert_equal(life, unbroken, "gated")


# -- several processes


def test_two_shares_at_the_same_time_equal_one_processs_work(writers: Writers, life: Life, unbroken: Life):
    """Both are surely at work at once; the last to end merges."""
    (life.folder / "gate").write_text("1")
    both = []
    for share in ("0/2", "1/2"):
        words = gated(life, "--shard", share)
        both.append(writers.start(life.folder, words))
    for kind, count in (("person-images", 6), ("rgb", 0)):
        wait_for(lambda kind=kind, count=count: len(parts(life, kind)) == count)
    (life.folder / "gate").unlink()
    said = [ended(writer, 0).out for writer in both]
    assert any("not complete" not in out for out in said)
    assert_equal(life, unbroken, "gated")


def test_one_share_alone_says_that_it_is_not_complete(writers: Writers, life: Life, unbroken: Life):
    out = ended(writers.start(life.folder, life.words("--shard", "1/2")), 0).out
    assert "made 12 rows; 12 are not there yet" in out
    assert "not complete: this was share 1/2 of the work; the process that makes the last rows merges all" in out
    assert not list(life.data.rglob("cache.h5"))
    assert "not complete" not in ended(writers.start(life.folder, life.words("--shard", "0/2")), 0).out
    assert_equal(life, unbroken, "mixing")


def test_a_failed_clip_is_the_exit_code_of_the_last_process_alone(writers: Writers, life: Life, tmp_path: Path):
    """torchrun would end all the others at the first that leaves with an error."""
    shutil.copytree(life.videos, tmp_path / "videos")
    (tmp_path / "videos" / f"{life.names[0]}.mp4").write_text("no video")
    life.videos = tmp_path / "videos"
    first = ended(writers.start(life.folder, life.words("--shard", "0/2")), 0)
    last = ended(writers.start(life.folder, life.words("--shard", "1/2")), 1)
    for out in (first.out, last.out):
        assert f"failed: {life.names[0]}: unreadable: not a video" in out


def test_a_second_run_of_the_same_share_is_refused_and_goes_on_after_a_kill(
    writers: Writers, life: Life, unbroken: Life
):
    first = held_after(writers, life, 3)
    second = ended(writers.start(life.folder, gated(life)), 1)
    (folder,) = find_caches(life.data, "rgb")
    line = f"process {first.pid} on {os.uname().nodename} is at work here; wait for it, or share the work with --shard"
    assert second.error == f"mmcl: {folder}: {line} 0/2 and --shard 1/2\n"
    first.kill()
    first.wait()
    (life.folder / "gate").unlink()
    third = ended(writers.start(life.folder, gated(life)), 0)
    assert "made 20 rows" in third.out
    assert_equal(life, unbroken, "gated")


@contextmanager
def torchrun(life: Life) -> Iterator[subprocess.Popen[bytes]]:
    (life.folder / "run.py").write_text(RUN)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "run.py"]
    with (life.folder / "out").open("w") as out, (life.folder / "err").open("w") as err:
        launched = subprocess.Popen([*launcher, *map(str, gated(life))], cwd=life.folder, stdout=out, stderr=err)
    try:
        yield launched
    finally:
        (life.folder / "gate").unlink(missing_ok=True)
        launched.terminate()
        launched.wait()


def test_torchrun_shares_the_work_and_a_rank_that_is_killed_hangs_no_other(life: Life, unbroken: Life):
    """torchrun ends its other ranks by SIGTERM: they finish their units. No rank waits for another."""
    gate, ranks = life.folder / "gate", [life.folder / f"rank-{rank}" for rank in range(2)]
    gate.write_text("1")
    with torchrun(life) as launched:
        wait_for(lambda: all(rank.exists() and rank.read_text() for rank in ranks))
        wait_for(lambda: len(parts(life, "person-images")) == 6)
        os.kill(int(ranks[1].read_text()), signal.SIGKILL)
        wait_for(lambda: HEARD in (life.folder / "err").read_text())
        gate.unlink()
        assert launched.wait(100) != 0
    assert f"mmcl: stopped after a whole unit; {AGAIN}" in (life.folder / "err").read_text()
    assert len(parts(life, "rgb")) == 1
    with torchrun(life) as launched:
        assert launched.wait(100) == 0, (life.folder / "err").read_text()
    assert (life.folder / "out").read_text().count("where the time went") == 1  # one process a machine speaks
    assert_equal(life, unbroken, "gated")


# -- broken clips


def broken_clips(folder: Path, good: Path) -> dict[str, str]:
    """A folder with every kind of broken file: the start of each one's reason, by name."""
    folder.mkdir()
    whole = good.read_bytes()
    picture = cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for name, content in {
        "empty.mp4": b"",
        "text.mp4": b"this is no video\n" * 50,
        "truncated.mp4": whole[: len(whole) // 2],
        "zeros.mp4": bytes(5000),
        "half-a-picture.mp4": picture[:40],
    }.items():
        (folder / name).write_bytes(content)
    shutil.copy(CLIPS / "audio_only.mp4", folder / "sound.mp4")
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "frames").mkdir()
    (folder / "frames" / "0.png").write_bytes(picture)
    (folder / "frames" / "1.png").write_text("no picture")
    (folder / "sizes").mkdir()
    for number, size in enumerate((32, 48)):
        cv2.imwrite(str(folder / "sizes" / f"{number}.png"), np.zeros((size, size, 3), np.uint8))
    (folder / "nothing").mkdir()
    shutil.copy(good, folder / "good.mp4")
    return {
        "empty": "unreadable: an empty file",
        "text": "unreadable: not a video",
        "truncated": "unreadable: not a video",
        "zeros": "unreadable: not a video",
        "half-a-picture": "un",
        "sound": "unreadable: not a video",
        "gone": "unreadable: No such file or directory",
        "frames": "undecodable: 1.png is no image",
        "sizes": "undecodable: frames of different sizes (32x32, 48x48); those of a clip have one",
        "nothing": "missing: no video nothing",
        "absent": "missing: no video absent",
    }


def test_every_kind_of_broken_clip_is_a_row_with_its_reason(videos: Path, names: list[str], tmp_path: Path):
    """And the good clip between them is as it would be alone."""
    wanted = broken_clips(tmp_path / "videos", videos / f"{names[0]}.mp4")
    data = write_names(tmp_path / "data", sorted([*wanted, "good"]))
    extract(data, tmp_path / "videos", rgb=Eye())
    for kind in ("person-images", "rgb"):
        found = only_cache(data, kind).failures
        assert found.keys() == wanted.keys()
        for name, reason in wanted.items():
            assert found[name].startswith(reason), (name, found[name])
            assert re.match("missing|unreadable|undecodable", found[name])
    rows = only_cache(data, "person-images")
    good = rows.row_of["good"]
    assert rows.array("video_frames")[good] == rows.array("claimed_frames")[good] > 0


def test_a_picture_with_a_videos_name_and_a_folder_of_frames_are_clips(tmp_path: Path):
    (tmp_path / "videos" / "frames").mkdir(parents=True)
    for number in range(3):
        picture = np.full((48, 64, 3), 60 * number, np.uint8)
        cv2.imwrite(str(tmp_path / "videos" / "frames" / f"{number}.png"), picture)
    (tmp_path / "videos" / "one.mp4").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    data = write_names(tmp_path / "data", ["frames", "one"])
    extract(data, tmp_path / "videos")
    rows = only_cache(data, "person-images")
    assert rows.failures == {}
    assert rows.array("video_frames").tolist() == [3, 1]


def test_a_decoder_that_dies_or_hangs_costs_its_clip_alone(
    videos: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The decoders' own tests make them die; here their words become rows."""
    read = decoders().read
    words = {names[1]: ValueError("crashed: the decoder died of signal 11 (Segmentation fault)")}
    words[names[2]] = TimeoutError("timeout: no sign of life for 120 s")

    def dying(path: Path, counts: list[int]) -> object:
        if path.stem in words:
            raise words[path.stem]
        return read(path, counts)

    monkeypatch.setattr(decoders(), "read", dying)
    data = write_names(tmp_path / "data", names[:5])
    extract(data, videos)
    assert only_cache(data, "person-images").failures == {name: str(error) for name, error in words.items()}


# -- disks and folders


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A disk in memory on `folder`; skips the test where mounting is not allowed."""
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", *options, "none", folder], check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up_is_one_line_and_what_was_written_stays(
    writers: Writers, life: Life, unbroken: Life, tmp_path: Path
):
    """There was space enough at the start; then somebody else took it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-o", "size=100m"):
        own = Life(life.folder, life.videos, life.names, data=Path(shutil.copytree(life.data, disk / "data")))
        first = held_after(writers, own, 3)
        with suppress(OSError), (disk / "somebody-elses").open("wb", 0) as other:
            while True:
                other.write(bytes(4096))
        there = own.parts()
        (life.folder / "gate").unlink()
        ended(first, 1)
        assert re.fullmatch(rf"mmcl: {own.data}/rgb/.*\.h5: {FULL}\n", first.error)
        assert own.parts() == there
        assert not list(own.data.rglob("*.tmp"))
        (disk / "somebody-elses").unlink()
        ended(writers.start(life.folder, gated(own)), 0)
        assert_equal(own, unbroken, "gated")


def test_a_read_only_folder_is_one_line_and_a_complete_one_is_used(
    writers: Writers, life: Life, unbroken: Life, tmp_path: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, "-o", "size=100m"):
        new, whole = (
            Life(life.folder, life.videos, life.names, data=Path(shutil.copytree(one.data, disk / name)))
            for name, one in (("new", life), ("whole", unbroken))
        )
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused = ended(writers.start(life.folder, gated(new)), 1)
        assert re.fullmatch(r"mmcl: .*/new/.*: Read-only file system\n", refused.error)
        assert ended(writers.start(life.folder, gated(whole)), 0).out.count("reused as it was") == 2


def test_a_cache_of_another_recipe_in_the_folder_is_refused(videos: Path, names: list[str], tmp_path: Path):
    data = write_names(tmp_path / "data", names[:5])
    extract(data, videos, rgb=Eye())
    folder = only_cache(data, "rgb").folder
    said = json.loads((folder / "recipe.json").read_text())
    said["settings"]["model"] = "another"
    (folder / "recipe.json").write_text(json.dumps(said))
    shutil.copy(data / "skeletons.h5", tmp_path)
    write_names(data, names[:6])
    with pytest.raises(ValueError, match=r'made with another recipe.*\n  model: found "another", wanted "eye"'):
        extract(data, videos, rgb=Eye())


def test_rows_of_another_recipe_in_the_folder_are_refused(videos: Path, names: list[str], tmp_path: Path):
    """Somebody copied a part, or a table, from one folder to another."""
    data = write_names(tmp_path / "data", names[:5])
    extract(data, videos, rgb=Eye())
    other = create_cache(data, type(only_cache(data, "rgb").recipe)("text", "acted", {"model": "eye"}))
    shutil.copy(only_cache(data, "rgb").folder / "cache.h5", other)
    with pytest.raises(ValueError, match=r"cache\.h5: belongs to recipe \w{12}, this cache is \w{12}; move it away"):
        open_index(other)


def test_a_part_with_flipped_bits_is_found_before_it_is_merged(videos: Path, names: list[str], tmp_path: Path):
    """It is named, with the next step; that makes its rows again and no other."""
    data = write_names(tmp_path / "data", names)
    with pytest.MonkeyPatch.context() as small:
        small.setattr("mmcl.pipeline.extraction.shard.UNIT", 10)
        extract(data, videos, rgb=Eye(), shard=Shard(0, 2))
        part, _ = sorted(data.glob("rgb/*/parts/*.h5"))
        content, feature = part.read_bytes(), np.asarray(read_table(part)[0]["feature"][4]).tobytes()
        place = content.index(feature)
        part.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        line = rf"{part}: 1 of its 10 rows are no longer what was written; delete this file, and run the same"
        with pytest.raises(OSError, match=line):
            extract(data, videos, rgb=Eye())
        part.unlink()
        eye = Eye()
        extract(data, videos, rgb=eye)
        assert eye.rows == 10
    assert sorted(only_cache(data, "rgb").names) == names


def test_what_is_no_part_is_named_with_the_next_step(videos: Path, names: list[str], tmp_path: Path):
    data = write_names(tmp_path / "data", names[:5])
    extract(data, videos, rgb=Eye())
    part = only_cache(data, "rgb").folder / "parts" / "00000003-00000000.h5"
    part.write_bytes(b"half a part")
    with pytest.raises(OSError, match=rf"{part}: not a readable HDF5 file .*; delete it and make it again"):
        extract(data, videos, rgb=Eye())
    part.unlink()
    before = files(data)
    extract(data, videos, rgb=Eye())
    assert files(data) == before
