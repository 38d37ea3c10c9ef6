"""What a cache holds while it is being made, parts to one table, and one process at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcl.cache import index as module
from mmcl.cache.index import open_index
from mmcl.cache.lock import locked
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import Made, create_cache, is_merged, open_cache, verify, write_part
from mmcl.cache.table import Ragged

RECIPE = Recipe("rgb", "acted", {"model": "owner/net"})
NAMES = [f"clip{number}" for number in range(6)]


def put(folder: Path, unit: int, names: list[str], made: Made | None = None, *, plus: float = 0, why: str = "") -> Path:
    """A part whose features say which clip they are of, `plus` something."""
    values = [float(name.removeprefix("clip")) + plus for name in names]
    columns = {
        "feature": np.array([[value] * 2 for value in values], np.float32),
        "jpeg": Ragged.of([np.full(len(name) + row, row, np.uint8) for row, name in enumerate(names)]),
        "image_crc": np.arange(len(names), dtype=np.uint32),
    }
    return write_part(folder, unit, names, [why] * len(names), columns, made or Made())


def assert_whole(folder: Path, names: list[str]) -> None:
    rows = open_cache(folder)
    assert sorted(rows.names) == sorted(names)
    for name in names:
        assert (rows.array("feature")[rows.row_of[name]] == float(name.removeprefix("clip"))).all()
    assert verify(folder) == []
    assert is_merged(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_cache(tmp_path, RECIPE)


@pytest.fixture
def merged(folder: Path) -> Path:
    put(folder, 0, NAMES[:3])
    put(folder, 1, NAMES[3:])
    merge(folder)
    return folder


# -- what there is so far


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path):
    index = open_index(tmp_path / "nowhere")
    assert (index.sources, index.places, index.batch, index.fit, index.next_generation) == ((), {}, 0, 0, 1)


def test_rows_are_known_from_the_table_and_from_parts(merged: Path):
    put(merged, 7, ["clip7", "clip8"], why="unreadable: not a video")
    index = open_index(merged)
    assert sorted(index.places) == [*NAMES, "clip7", "clip8"]
    assert index.failures == dict.fromkeys(("clip7", "clip8"), "unreadable: not a video")
    assert index.values("image_crc")["clip8"] == 1
    assert index.checksums.keys() == index.places.keys()
    assert index.checksums["clip4"] == open_cache(merged).checksums["clip4"]


def test_of_several_rows_of_one_name_the_newest_counts(folder: Path):
    put(folder, 0, NAMES[:3], Made(generation=2), why="")
    put(folder, 0, NAMES[:2], Made(generation=1), plus=100, why="unreadable: not a video")
    put(folder, 9, NAMES[2:4], Made(generation=3), plus=0)
    index = open_index(folder)
    assert index.failures == {}
    assert index.next_generation == 4
    merge(folder)
    assert_whole(folder, NAMES[:4])
    assert open_index(folder).next_generation == 4


def test_it_tells_the_batch_that_was_asked_for_and_the_one_that_has_always_fitted(folder: Path):
    for unit, fit in enumerate((16, 4, 8)):
        put(folder, unit, [NAMES[unit]], Made(batch=16, fit=fit))
    assert (open_index(folder).batch, open_index(folder).fit) == (16, 4)
    merge(folder)
    assert (open_index(folder).batch, open_index(folder).fit) == (16, 4)


def test_it_tells_each_combination_of_versions_once(folder: Path):
    for unit, number in enumerate(("2.11", "2.13", "2.11")):
        put(folder, unit, [NAMES[unit]], Made(libraries={"torch": number}))
    wanted = [{"torch": "2.11"}, {"torch": "2.13"}]
    assert open_index(folder).libraries == wanted
    merge(folder)
    assert open_index(folder).libraries == wanted


def test_a_part_of_another_recipe_is_refused(folder: Path, tmp_path: Path):
    other = create_cache(tmp_path, Recipe("rgb", "acted", {"model": "owner/other"}))
    strange = shutil.copy(put(other, 0, NAMES[:2]), folder / "parts" / "00000000-0.h5")
    with pytest.raises(
        ValueError, match=f"{strange}: belongs to recipe {other.name}, this cache is {folder.name}; move"
    ):
        open_index(folder)


@pytest.mark.parametrize("moment", ["exists", "glob", "open"])
def test_a_merge_between_listing_and_reading_hides_no_row(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str):
    """Another process merges after this one asked whether there is a table, listed the parts, or opened the first."""
    put(folder, 0, NAMES[:3])
    put(folder, 1, NAMES[3:])
    owner, name = {"open": (module, "read_source")}.get(moment, (Path, moment))
    usual = getattr(owner, name)

    def then_merged(*args: object) -> object:
        found = list(usual(*args)) if moment == "glob" else usual(*args)
        monkeypatch.undo()
        merge(folder)
        return found

    monkeypatch.setattr(owner, name, then_merged)
    assert sorted(open_index(folder).places) == NAMES
    assert is_merged(folder)


def test_files_that_change_all_the_time_are_given_up_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch):
    put(folder, 0, NAMES)

    def gone(path: Path, key: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(module, "read_source", gone)
    with pytest.raises(RuntimeError, match="its files change faster than they can be read; try again"):
        open_index(folder)


# -- parts to one table


def test_parts_that_come_after_a_merge_are_added(merged: Path):
    put(merged, 7, ["clip7", "clip8"])
    assert not is_merged(merged)
    merge(merged)
    assert_whole(merged, [*NAMES, "clip7", "clip8"])


@pytest.mark.parametrize("later", [[], ["clip9"]], ids=["nothing new", "a new clip"])
@pytest.mark.parametrize("unlinked", [0, 1])
def test_a_kill_after_merging_and_before_the_parts_are_gone_doubles_no_row(
    folder: Path, unlinked: int, later: list[str]
):
    """Parts whose rows are all in the table already are only removed."""
    put(folder, 0, NAMES[:3])
    put(folder, 1, NAMES[3:])
    aside = shutil.copytree(folder / "parts", folder.parent / "aside")
    merge(folder)
    table = (folder / "cache.h5").stat()
    for part in sorted(aside.glob("*.h5"))[unlinked:]:
        shutil.copy(part, folder / "parts")
    if later:
        put(folder, 2, later)
    merge(folder)
    assert_whole(folder, [*NAMES, *later])
    assert ((folder / "cache.h5").stat() == table) is not bool(later)


def test_two_runs_that_did_the_same_unit_count_it_once(folder: Path):
    put(folder, 0, NAMES[:4])
    put(folder, 1, NAMES[2:])
    merge(folder)
    assert_whole(folder, NAMES)


def test_a_merge_is_not_redone_where_nothing_came(merged: Path):
    before = (merged / "cache.h5").stat()
    merge(merged)
    assert (merged / "cache.h5").stat() == before


def test_a_table_that_was_copied_without_its_empty_parts_is_merged_already(merged: Path):
    shutil.rmtree(merged / "parts")
    assert merge(merged).names == NAMES


def test_what_a_killed_merge_left_goes_with_the_next(folder: Path):
    put(folder, 0, NAMES)
    (folder / "cache.h5.host.1.tmp").write_bytes(b"gigabytes")
    merge(folder)
    assert not list(folder.rglob("*.tmp"))
    assert_whole(folder, NAMES)


def test_a_table_that_grew_under_several_versions_names_each_once(folder: Path):
    """However often it was merged: an HDF5 attribute holds 64 KB."""
    for number in range(20):
        put(folder, number, [f"clip{number}"], Made(libraries={"torch": f"2.{number % 3}"}))
        merge(folder)
    with h5py.File(folder / "cache.h5") as file:
        versions = json.loads(file.attrs["libraries"])
    assert versions == {"mixed": ['{"torch": "2.0"}', '{"torch": "2.1"}', '{"torch": "2.2"}']}


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


@pytest.mark.parametrize("column", ["feature", "jpeg/values", "jpeg/offsets", "name", "failure", "crc"])
def test_a_part_with_a_flipped_bit_is_not_merged_and_its_unit_can_be_made_again(folder: Path, column: str):
    put(folder, 0, NAMES[:3])
    part = put(folder, 1, NAMES[3:])
    with h5py.File(part) as file:
        place = file[column].id.get_offset() + file[column].dtype.itemsize
    flip(part, place, 0)
    with pytest.raises(OSError, match=rf"{part}: \d of its 3 rows are no longer what was written; delete this file"):
        merge(folder)
    assert not (folder / "cache.h5").exists()
    part.unlink()
    assert sorted(open_index(folder).places) == NAMES[:3]
    put(folder, 1, NAMES[3:])
    merge(folder)
    assert_whole(folder, NAMES)


def test_a_damaged_part_whose_rows_were_made_anew_does_no_harm(folder: Path):
    part = put(folder, 0, NAMES)
    with h5py.File(part) as file:
        place = file["feature"].id.get_offset()
    flip(part, place, 5)
    put(folder, 0, NAMES, Made(generation=2))
    merge(folder)
    assert_whole(folder, NAMES)


def test_wherever_a_bit_flips_a_part_is_refused(folder: Path):
    """In any byte: the numbers, the names, and the file's own account of itself; but for those that only fill up."""
    part = put(folder, 0, NAMES[:2])
    content, rng = part.read_bytes(), np.random.default_rng(0)
    harmless = 0
    for place in rng.choice(len(content), 200, replace=False).tolist():
        part.write_bytes(content)
        flip(part, place, int(rng.integers(8)))
        try:
            merge(folder)
        except OSError as error:
            assert re.match(rf"^{part}: .*; delete (it|this file)", str(error))
        else:
            assert_whole(folder, NAMES[:2])
            (folder / "cache.h5").unlink()
            harmless += 1
    assert harmless < 5  # fewer than eight bytes before each column
    part.write_bytes(content)
    merge(folder)
    assert_whole(folder, NAMES[:2])


# -- one process at a time


def hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(path, wait=False):
        held.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds tmp_path / "lock"."""
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock", held))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_process_is_told_who_holds_the_lock(holder: multiprocessing.Process, tmp_path: Path):
    line = rf"process {holder.pid} on {os.uname().nodename} is at work here"
    with pytest.raises(BlockingIOError, match=line), locked(tmp_path / "lock", wait=False):
        raise AssertionError("both have it")


def test_kill_9_lets_the_lock_go(holder: multiprocessing.Process, tmp_path: Path):
    holder.kill()
    holder.join()
    with locked(tmp_path / "lock", wait=False):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}"


def test_who_waits_gets_the_lock_when_it_is_free(holder: multiprocessing.Process, tmp_path: Path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    waiting = context.Process(target=wait_for, args=(tmp_path / "lock", held))
    waiting.start()
    assert not held.wait(0.05)
    holder.kill()
    assert held.wait(60)
    waiting.join()


def wait_for(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(path, wait=True):
        held.set()


def test_a_file_system_without_locks_is_worked_on_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Parts are safe without: two runs of one share make the same rows twice, and count them once."""

    def unsupported(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with locked(tmp_path / "lock", wait=False):
        assert (tmp_path / "lock").exists()
