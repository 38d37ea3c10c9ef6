"""Test clips that are training clips under another name are counted beside the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, read_skeletons, write_skeletons
from mmcl.cache.table import Ragged
from mmcl.tests.training import Watch
from mmcl.trainer.config import Config
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.testing.evaluate import evaluate
from mmcl.trainer.testing.leaks import leaked

TINY = Config(split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=1, warmup=0, milestones=(), lr=0.05)


def nothing(*_: object) -> None:
    pass


def with_joints(data: Path, changed: dict[int, np.ndarray]) -> Skeletons:
    """The data set with the joints of some rows replaced."""
    path = data / "skeletons.h5"
    found = read_skeletons(path)
    clips = [changed.get(row, found.joints[row]) for row in range(len(found.names))]
    write_skeletons(path, replace(found, joints=Ragged.of([np.array(clip) for clip in clips])))
    return read_skeletons(path)


def test_a_clip_leaks_where_all_its_joints_are_a_training_clips(data: Path):
    found = read_skeletons(data / "skeletons.h5")
    train_rows, test_rows = found.rows("xsub", TRAIN), found.rows("xsub", TEST)
    assert not leaked(found, train_rows, test_rows).any()
    same, nearly = np.array(found.joints[train_rows[3]]), np.array(found.joints[train_rows[4]])
    nearly[-1, 0, 0] += 1e-6  # the first and the middle frame agree
    found = with_joints(data, {int(test_rows[2]): same, int(test_rows[5]): nearly})
    assert np.flatnonzero(leaked(found, train_rows, test_rows)).tolist() == [2]
    assert not leaked(found, train_rows[:3], test_rows).any()


def test_evaluation_says_how_many_leak_and_what_the_others_give(data: Path):
    found = read_skeletons(data / "skeletons.h5")
    train_rows, test_rows = found.rows("xsub", TRAIN), found.rows("xsub", TEST)
    with_joints(data, {int(row): np.array(found.joints[train_rows[0]]) for row in test_rows[:3]})
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    result = evaluate(data / "run", None, nothing)
    scores = np.load(result.folder / "scores.npz")
    right = scores["scores"].argmax(1) == scores["labels"]
    assert result.leaked == 3 and result.top1_unleaked == right[3:].mean()
    assert f"LEAK: 3 of {len(test_rows)} test clips have the very joints of a training clip" in result.notes[-1]
    said = json.loads((result.folder / "results.json").read_text())
    assert (said["leaked_clips"], said["top1_without_leaked"]) == (3, result.top1_unleaked)
    assert said["notes"] == result.notes


def test_nothing_is_said_of_leaks_in_data_that_were_not_trained_on(data: Path):
    """What trained on it there is not what this network has seen."""
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    found = read_skeletons(data / "skeletons.h5")
    test_rows, known = found.rows("xsub", TEST), found.rows("xsub", TRAIN)[0]
    with_joints(data, {int(row): np.array(found.joints[known]) for row in test_rows})
    result = evaluate(data / "run", data, nothing)
    assert (result.leaked, result.top1_unleaked) == (None, None)
    assert not any("LEAK" in note for note in result.notes)


def test_where_all_test_clips_leak_there_is_no_other_number(data: Path):
    found = read_skeletons(data / "skeletons.h5")
    known = np.array(found.joints[found.rows("xsub", TRAIN)[0]])
    tests = found.rows("xsub", TEST)
    with_joints(data, {int(row): known for row in tests})
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    result = evaluate(data / "run", None, nothing)
    assert (result.leaked, result.top1_unleaked) == (len(tests), None)
    assert "top-1 on the others" not in result.notes[-1]


def test_clips_that_are_held_out_were_not_trained_on(data: Path):
    found = read_skeletons(data / "skeletons.h5")
    held = next(row for row in found.rows("xsub", TRAIN) if found.columns["subject"][row] == 3)
    with_joints(data, {int(found.rows("xsub", TEST)[0]): np.array(found.joints[held])})
    config = replace(TINY, validation="3")
    train(plan(Job(data, data / "run", config, None)), data / "run", Watch())
    assert evaluate(data / "run", None, nothing).leaked == 0


def test_a_clean_split_has_no_such_note(data: Path):
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    result = evaluate(data / "run", None, nothing)
    assert result.leaked == 0 and result.top1_unleaked == result.metrics.top1
    assert not any("LEAK" in note for note in result.notes)
