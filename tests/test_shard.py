"""Which process makes what: shares that are disjoint and whole, whoever launches the processes, and their devices."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmcl.cache.index import open_index
from mmcl.cache.store import find_caches
from mmcl.pipeline.extraction import shard as module
from mmcl.pipeline.extraction.shard import UNIT, WHOLE, Shard, find_device, find_shard
from mmcl.tests.loop import Eye, columns_of, extract, mean_of, only_cache, write_names

NAMES = [f"clip{number}" for number in range(5 * UNIT + 3)]


def torchrun(rank: int, world: int, beside: int | None = None) -> dict[str, str]:
    """The environment that torchrun gives a process on a node of `beside`."""
    beside = beside or world
    values = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank % beside, "LOCAL_WORLD_SIZE": beside}
    return {name: str(value) for name, value in values.items()}


# -- shares


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_every_unit_is_exactly_one_processs_and_the_same_whoever_makes_it(count: int):
    shares = [Shard(index, count).units(NAMES) for index in range(count)]
    assert sorted(unit for share in shares for unit in share) == WHOLE.units(NAMES)
    assert [name for _, names in WHOLE.units(NAMES) for name in names] == NAMES
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_a_process_makes_everything():
    assert find_shard(None, {}) == WHOLE == Shard(0, 1)


def test_a_share_is_asked_for_as_i_of_n():
    assert find_shard("2/8", {}) == Shard(2, 8)


@pytest.mark.parametrize("asked", ["", "/", "2", "2/2", "-1/2", "0/0", "1/x", "1/2/3", "\N{SUPERSCRIPT TWO}/3", " 0/2"])
def test_what_is_no_share_is_refused_with_how_to_say_one(asked: str):
    with pytest.raises(ValueError, match=f"--shard {asked}: wanted i/n with i from 0 to n-1, such as 0/8 to 7/8"):
        find_shard(asked, {})


def test_the_ranks_of_torchrun_share_the_work_and_the_machine():
    assert [find_shard(None, torchrun(rank, 4, 2)) for rank in range(4)] == [
        Shard(0, 4, 0, 2),
        Shard(1, 4, 1, 2),
        Shard(2, 4, 0, 2),
        Shard(3, 4, 1, 2),
    ]


def test_a_share_is_split_further_among_the_ranks():
    """A Slurm array of three tasks, each of which starts torchrun with two processes."""
    shares = [find_shard(f"{task}/3", torchrun(rank, 2)) for task in range(3) for rank in range(2)]
    assert sorted(unit for share in shares for unit in share.units(NAMES)) == WHOLE.units(NAMES)
    assert shares[3] == Shard(3, 6, 1, 2)


@pytest.mark.parametrize(
    "environment", [{"RANK": "3"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "a"}, {"LOCAL_RANK": "-1"}]
)
def test_a_rank_of_no_world_is_refused_rather_than_most_of_the_clips_left_out(environment: dict[str, str]):
    with pytest.raises(ValueError, match=r"the environment says RANK=.*; unset them, and share the work with --shard"):
        find_shard(None, environment)


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [Shard(0, 4, 0, beside).cores for beside in (1, 2, 3, 16)] == [8, 4, 2, 1]


# -- devices


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("asked", [None, "cuda"])
def test_each_process_of_a_machine_takes_an_accelerator_of_its_own(asked: str | None):
    assert [find_device(asked, Shard(i, 4, i, 4)) for i in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]


@pytest.mark.usefixtures("two_gpus")
def test_the_device_that_was_asked_for_is_taken():
    assert find_device("cpu", WHOLE) == "cpu"
    assert find_device("auto", WHOLE) == "auto"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
@pytest.mark.parametrize("asked", ["cuda", "cuda:7", "gpu"])
def test_a_device_that_cannot_be_used_is_refused(asked: str):
    assert find_device(None, WHOLE) == "cpu"
    with pytest.raises(ValueError, match=rf"--device {asked}: can't be used here \(.*\); leave it out"):
        find_device(asked, WHOLE)


# -- several processes


@pytest.fixture
def new(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 24 clips in units of five: two for each of two processes, and one more for the first."""
    monkeypatch.setattr(module, "UNIT", 5)
    return write_names(tmp_path / "acted", sorted(path.stem for path in (raw / "videos").iterdir()))


def mixing(images: np.ndarray) -> dict[str, np.ndarray]:
    """Rows depend on the whole batch, as those of a large model do in their last digits."""
    means = mean_of(images)["feature"]
    return {"feature": means + means.mean() / 8 + len(images)}


def features(data: Path) -> tuple[list[str], dict[str, list[bytes]]]:
    rows = only_cache(data, "rgb")
    return rows.names, columns_of(rows)


@pytest.fixture
def whole(new: Path, raw: Path, tmp_path: Path) -> tuple[list[str], dict[str, list[bytes]]]:
    """What one process makes of it."""
    data = Path(shutil.copytree(new, tmp_path / "whole"))
    extract(data, raw / "videos", rgb=Eye(mixing), batch=3)
    return features(data)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shares_in_any_order_are_merged_by_the_last_and_equal_one_processs_work(
    new: Path, raw: Path, order: tuple[int, int], whole: tuple[list[str], dict[str, list[bytes]]]
):
    eyes = Eye(mixing), Eye(mixing)
    first, last = (extract(new, raw / "videos", rgb=eyes[i], batch=3, shard=Shard(i, 2)) for i in order)
    assert [eye.rows for eye in eyes] == [14, 10]
    assert first.missing == 24 - eyes[order[0]].rows
    assert [report.note for report in first.reports] == [
        f"made {24 - first.missing} rows; {first.missing} are not there yet"
    ] * 2
    assert last.missing == 0
    assert features(new) == whole


def test_without_the_other_shares_nothing_is_merged_and_nothing_lost(new: Path, raw: Path):
    extract(new, raw / "videos", rgb=Eye(mixing), batch=3, shard=Shard(1, 3))
    for kind in ("person-images", "rgb"):
        (folder,) = find_caches(new, kind)
        assert not (folder / "cache.h5").exists()
        assert len(open_index(folder).places) == 9
    again = extract(new, raw / "videos", rgb=Eye(mixing), batch=3, shard=Shard(1, 3))
    assert [report.made for report in again.reports] == [0, 0]
    extract(new, raw / "videos", rgb=Eye(mixing), batch=3)
    assert len(features(new)[0]) == 24
