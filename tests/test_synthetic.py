"""The data set made by code: its files, its splits, and bodies that stay whole."""

import csv
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from mmcl.pipeline.demo.synthetic import CLASSES, PARENTS, make_dataset

PERFORMERS, TRIALS = 3, 1


class Made(NamedTuple):
    root: Path
    rows: list[dict[str, str]]
    calls: list[tuple[int, int]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root, calls = tmp_path_factory.mktemp("synthetic") / "new" / "data", []
    make_dataset(root, performers=PERFORMERS, trials=TRIALS, progress=lambda done, total: calls.append((done, total)))
    with (root / "samples.csv").open(newline="") as table:
        return Made(root, list(csv.DictReader(table)), calls)


def bone_lengths(path: Path) -> np.ndarray:
    joints = np.load(path)
    return np.linalg.norm(joints[:, 1:] - joints[:, list(PARENTS[1:])], axis=-1)


def test_the_table_names_every_file_and_no_other(made: Made):
    """Each row's two files are there, nothing else is, and names are unique."""
    listed = {row[column] for row in made.rows for column in ("skeleton", "video")}
    found = {path.relative_to(made.root).as_posix() for path in made.root.rglob("*.*")}
    assert found == listed | {"samples.csv"}
    assert list(made.rows[0]) == ["name", "label", "subject", "split", "skeleton", "video"]
    assert len({row["name"] for row in made.rows}) == len(made.rows) == PERFORMERS * TRIALS * len(CLASSES)
    assert {row["label"] for row in made.rows} == set(CLASSES)
    assert [path.name for path in made.root.parent.iterdir()] == ["data"]  # the folder it was made in is gone


def test_progress_counts_clips(made: Made):
    total = len(made.rows)
    assert made.calls == [(done, total) for done in range(1, total + 1)]


def test_no_performer_is_in_both_splits(made: Made):
    subjects = {split: {row["subject"] for row in made.rows if row["split"] == split} for split in ("train", "test")}
    assert subjects["train"] and subjects["test"]
    assert not subjects["train"] & subjects["test"]


def test_skeletons_are_metres_before_the_camera(made: Made):
    for row in made.rows:
        joints = np.load(made.root / row["skeleton"])
        assert joints.dtype == np.float32 and joints.shape[1:] == (20, 3) and 30 <= len(joints) <= 60
        assert np.isfinite(joints).all() and joints[..., 2].min() > 1.5 and joints[..., 2].max() < 4.5
        assert np.ptp(joints[..., 1]) < 2.7


def test_bones_keep_their_length_and_tell_performers_apart(made: Made):
    """Within a clip a bone varies by sensor noise alone; between performers it differs."""
    lengths = [bone_lengths(made.root / row["skeleton"]) for row in made.rows]
    assert max(np.ptp(clip, axis=0).max() for clip in lengths) < 0.08
    assert max(clip.std(axis=0).max() for clip in lengths) < 0.015
    thighs = {
        subject: np.mean(
            [clip[:, 12].mean() for clip, row in zip(lengths, made.rows, strict=True) if row["subject"] == subject]
        )
        for subject in ("1", "2", "3")
    }
    assert np.diff(sorted(thighs.values())).min() > 0.01


def test_a_video_has_a_frame_a_skeleton_frame(made: Made):
    for row in made.rows:
        capture, frames = cv2.VideoCapture(str(made.root / row["video"])), 0
        while capture.read()[0]:
            frames += 1
        capture.release()
        assert frames == len(np.load(made.root / row["skeleton"])), row["name"]


def test_a_seed_decides_the_skeletons(made: Made, tmp_path: Path):
    """Fewer performers and the same seed: the same clips; another seed: others."""
    make_dataset(tmp_path / "same", performers=2, trials=1, seed=0)
    make_dataset(tmp_path / "other", performers=2, trials=1, seed=1)
    for path in sorted((tmp_path / "same" / "skeletons").iterdir()):
        joints, other = np.load(path), np.load(tmp_path / "other" / "skeletons" / path.name)
        assert np.array_equal(joints, np.load(made.root / "skeletons" / path.name))
        assert joints.shape != other.shape or not np.allclose(joints, other)


def test_a_second_call_leaves_everything_as_it_is(made: Made):
    before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*")}
    make_dataset(made.root, performers=2, progress=lambda done, total: pytest.fail("made again"))
    assert {path: path.stat().st_mtime_ns for path in made.root.rglob("*")} == before


def test_an_interrupted_call_leaves_no_root(tmp_path: Path):
    """Stopped half-way, it leaves nothing behind, and the next call succeeds."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "data", performers=2, trials=1, progress=stop)
    assert not list(tmp_path.iterdir())
    make_dataset(tmp_path / "data", performers=2, trials=1)
    assert (tmp_path / "data" / "samples.csv").exists()


def test_other_peoples_files_are_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds files but no samples\.csv"):
        make_dataset(tmp_path)


@pytest.mark.parametrize(("performers", "trials"), [(1, 4), (10, 0)])
def test_too_few_are_refused(tmp_path: Path, performers: int, trials: int):
    with pytest.raises(ValueError, match=f"performers={performers}, trials={trials}"):
        make_dataset(tmp_path / "data", performers=performers, trials=trials)
