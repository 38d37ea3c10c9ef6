"""A split's classes and body rule, and the data's coordinates, on their way from the cache to a run and its results."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mmcl.cache.skeletons import OUT, TEST, TRAIN, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.tests.training import Watch
from mmcl.trainer.config import Config
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, Request, decide, plan
from mmcl.trainer.report import plan_lines
from mmcl.trainer.run import read_run
from mmcl.trainer.testing.evaluate import evaluate

TINY = Config(split="some", width=8, window=16, crop_frames=16, batch=4, epochs=1, warmup=0, milestones=(), lr=0.05)


def nothing(*_: object) -> None:
    pass


def change(data: Path, **changes: object) -> Skeletons:
    path = data / "skeletons.h5"
    changed = replace(read_skeletons(path), **changes)
    write_skeletons(path, changed)
    return changed


def some_classes(data: Path, classes: tuple[int, ...], rule: str) -> Skeletons:
    """A split over some classes only, in an order of its own; the subjects train and test as ever."""
    found = read_skeletons(data / "skeletons.h5")
    sides = np.where(np.isin(found.labels, classes), found.splits["xsub"].sides, OUT).astype(np.int8)
    return change(data, splits=dict(found.splits) | {"some": Split(sides, rule, classes)})


def asked(data: Path, *settings: dict[str, object]) -> Job:
    return decide(Request(data, data / "run", None, settings, "none", "none"))


def test_a_split_trains_and_tests_its_own_classes(data: Path):
    """The network counts the split's classes alone, in the split's order; so do scores and tables."""
    skeletons = some_classes(data, (5, 0, 2), "zero")
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    run = read_run(data / "run")
    names = tuple(skeletons.classes[label] for label in (5, 0, 2))
    assert run.classes == names
    evaluate(data / "run", None, nothing)
    found = np.load(data / "run" / "evaluation" / "scores.npz")
    rows = skeletons.rows("some", TEST)
    assert found["scores"].shape == (len(rows), 3)
    assert [names[label] for label in found["labels"]] == [skeletons.classes[skeletons.labels[row]] for row in rows]
    with (data / "run" / "evaluation" / "confusion.csv").open(newline="") as file:
        assert [line[0] for line in csv.reader(file)][1:] == list(names)


@pytest.mark.parametrize("rule", ["zero", "repeat"])
def test_a_run_keeps_the_body_rule_of_its_split(data: Path, rule: str):
    some_classes(data, (0, 1), rule)
    assert plan(Job(data, data / "run", TINY, None)).run.body_rule == rule


def test_data_whose_split_counts_other_classes_is_refused(data: Path):
    some_classes(data, (0, 1, 2), "zero")
    train(plan(Job(data, data / "run", TINY, None)), data / "run", Watch())
    some_classes(data, (0, 1, 3), "zero")
    with pytest.raises(ValueError, match=r"trained on acted \(3 classes, kinect-v1 in metres\), these skeletons are"):
        evaluate(data / "run", data, nothing)


def test_damaged_skeletons_are_neither_trained_nor_tested_on(data: Path):
    config = replace(TINY, split="xsub")
    train(plan(Job(data, data / "run", config, None)), data / "run", Watch())
    path = data / "skeletons.h5"
    with h5py.File(path) as file:
        at = file["joints/values"].id.get_offset()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(100))
    said = rf"1 damaged clips \({read_skeletons(path).names[0]}\); run the same `mmcl prepare` again"
    with pytest.raises(ValueError, match=said):
        plan(Job(data, data / "new", config, None))
    with pytest.raises(ValueError, match=said):
        evaluate(data / "run", None, nothing)


def test_another_data_set_of_the_same_classes_has_a_folder_of_its_own(data: Path):
    config = replace(TINY, split="xsub")
    train(plan(Job(data, data / "run", config, None)), data / "run", Watch())
    evaluate(data / "run", None, nothing)
    before = (data / "run" / "evaluation" / "results.json").read_bytes()
    change(data, dataset="other")
    result = evaluate(data / "run", data, nothing)
    assert result.folder.name == "evaluation-other" and (result.folder / "results.json").exists()
    assert "data: other, another data set than acted, which was trained on" in result.notes
    assert (data / "run" / "evaluation" / "results.json").read_bytes() == before


def test_one_class_is_nothing_to_train_on(data: Path):
    some_classes(data, (3,), "zero")
    with pytest.raises(ValueError, match="acted: split some has one class; there is nothing to tell apart"):
        plan(Job(data, data / "run", TINY, None))


def test_a_split_without_test_clips_is_said_before_the_training(data: Path):
    found = read_skeletons(data / "skeletons.h5")
    change(data, splits={"some": Split(np.full(len(found.names), TRAIN, np.int8))})
    planned = plan(Job(data, data / "run", TINY, None))
    assert (
        plan_lines(planned, torch.device("cpu"))[-1]
        == "split some has no test clips: `mmcl evaluate` will refuse this run"
    )


def test_a_2d_pose_takes_a_config_that_neither_centres_nor_turns(data: Path):
    change(data, coordinates="image")
    job = asked(data)
    assert job.config_file is not None and job.config_file.name == "image.toml"
    assert plan(job).run.coordinates == "image"
    for setting in ({"centre": True}, {"rotation": (0.0, 10.0, 0.0)}):
        with pytest.raises(ValueError, match="acted: a 2D pose is neither centred nor turned; --set centre=false"):
            plan(asked(data, setting))


def test_a_run_in_metres_is_not_tested_on_2d_poses(data: Path):
    config = replace(TINY, split="xsub")
    train(plan(Job(data, data / "run", config, None)), data / "run", Watch())
    change(data, coordinates="image")
    with pytest.raises(ValueError, match=r"kinect-v1 in metres.*kinect-v1 in image"):
        evaluate(data / "run", data, nothing)


def test_a_run_of_before_coordinates_were_kept_is_one_in_metres(data: Path):
    config = replace(TINY, split="xsub")
    train(plan(Job(data, data / "run", config, None)), data / "run", Watch())
    path = data / "run" / "run.json"
    found = json.loads(path.read_text())
    del found["coordinates"]
    path.write_text(json.dumps(found))
    assert read_run(data / "run").coordinates == "metres"
    assert evaluate(data / "run", None, nothing).metrics.clips == len(
        read_skeletons(data / "skeletons.h5").rows("xsub", TEST)
    )


def test_the_classes_of_a_split_are_learnt_by_their_place_in_it(data: Path):
    """Training clips of other classes stay out, and labels are the split's."""
    skeletons = some_classes(data, (4, 1), "zero")
    planned = plan(Job(data, data / "run", TINY, None))
    assert set(skeletons.labels[planned.split.train]) == {1, 4}
    assert set(skeletons.split_labels("some")[skeletons.rows("some", TRAIN)]) == {0, 1}
