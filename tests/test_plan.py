"""What a training is going to be: decided from a command, refused in one line, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmcl.cache.skeletons import TRAIN, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.tests.features import write_cache
from mmcl.trainer.config import Config
from mmcl.trainer.loop.start import Start
from mmcl.trainer.plan import Job, Request, decide, plan
from mmcl.trainer.run import Run, read_run, refuse_other, write_run

TINY = Config(split="xsub", width=8, window=16, batch=4)


@pytest.fixture
def skeletons(data: Path) -> Skeletons:
    return read_skeletons(data / "skeletons.h5")


def caches(data: Path, skeletons: Skeletons) -> tuple[Path, Path, Path]:
    """An RGB cache and two prompts' text caches."""
    values = np.random.default_rng(0).normal(size=(len(skeletons.names), 4)).astype(np.float32)
    texts = [
        write_cache(data, skeletons.names, {"prompt_feature": values}, kind="text", prompt=prompt)
        for prompt in ("head", "hand")
    ]
    return write_cache(data, skeletons.names, {"feature": values}), *texts  # type: ignore[return-value]


def test_a_request_is_decided_with_all_its_prompts(data: Path, skeletons: Skeletons):
    rgb, head, hand = caches(data, skeletons)
    settings = [{"split": "xsub"}]
    job = decide(Request(data, None, None, settings, None, "some/net", ["hand", "head"], Path("run"), True))
    assert (job.rgb, job.text, job.start, job.backbone_only) == (rgb, (hand, head), Path("run"), True)
    assert job.out == Path("runs/acted-xsub-joint")
    none = decide(Request(data, Path("here"), None, settings, "none", "none"))
    assert (none.rgb, none.text, none.start, none.out) == (None, (), None, Path("here"))


def test_a_run_is_read_as_it_was_written(data: Path, skeletons: Skeletons, tmp_path: Path):
    """With both kinds of teachers, each cache with its key, its rows' digest and its numbers."""
    rgb, head, hand = caches(data, skeletons)
    planned = plan(Job(data, tmp_path, TINY, rgb, (head, hand)))
    write_run(tmp_path, planned.run)
    run = read_run(tmp_path)
    assert run == planned.run
    refuse_other(tmp_path, planned.run)
    assert [used["key"] for used in run.teachers("rgb")] == [rgb.name]
    assert [used["settings"]["prompt"] for used in run.teachers("text")] == ["head", "hand"]
    (used,) = run.teachers("rgb")
    assert (used["columns"], used["dim"], used["constant"]) == (["feature"], 4, 0)
    assert planned.rgb is not None and used["rows"] == planned.rgb.digest
    write_run(tmp_path, plan(Job(data, tmp_path, TINY, None)).run)
    assert read_run(tmp_path).teachers("rgb") == read_run(tmp_path).teachers("text") == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(None, []), ({"key": "abc", "dataset": "acted", "settings": {}}, ["abc"])],
    ids=["none", "one cache"],
)
def test_runs_from_before_there_were_prompts_are_still_read(
    data: Path, tmp_path: Path, text: dict | None, wanted: list[str]
):
    write_run(tmp_path, plan(Job(data, tmp_path, TINY, None)).run)
    found = json.loads((tmp_path / "run.json").read_text())
    del found["start"]
    for key in ("schedule", "features", "refine_features", "align_input"):
        del found["config"][key]
    (tmp_path / "run.json").write_text(json.dumps(found | {"text": text}))
    run = read_run(tmp_path)
    assert [used["key"] for used in run.teachers("text")] == wanted and run.start is None
    assert run.config == TINY


def test_another_prompt_is_another_run(data: Path, skeletons: Skeletons, tmp_path: Path):
    _, head, hand = caches(data, skeletons)
    write_run(tmp_path, plan(Job(data, tmp_path, TINY, None, (head,))).run)
    with pytest.raises(ValueError, match=rf"text: there {head.name} with rows \w+, asked {head.name} .*, {hand.name}"):
        refuse_other(tmp_path, plan(Job(data, tmp_path, TINY, None, (head, hand))).run)


def test_another_start_is_another_run_and_one_that_was_moved_is_not(data: Path, tmp_path: Path):
    def starting(path: str, digest: str) -> Run:
        return replace(run, start=Start(path, digest, backbone_only=False, loaded=9, entries=9).as_dict())

    run = plan(Job(data, tmp_path, TINY, None)).run
    write_run(tmp_path, starting("old/run", "aa"))
    refuse_other(tmp_path, starting("new/run", "aa"))
    for other, said in ((starting("old/run", "bb"), r"old/run \(bb\)"), (run, "none")):
        with pytest.raises(ValueError, match=rf"start: there old/run \(aa\), asked {said}"):
            refuse_other(tmp_path, other)


def test_weights_to_start_from_are_read_with_the_plan_and_recorded(data: Path, skeletons: Skeletons, tmp_path: Path):
    """What does not fit is refused before a folder is made."""
    model = plan(Job(data, tmp_path, TINY, None)).run.build()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    planned = plan(Job(data, tmp_path / "run", TINY, None, start=tmp_path / "model.safetensors"))
    assert planned.start is not None and planned.start.keys() == model.state_dict().keys()
    assert torch.equal(planned.start["classifier.weight"], model.classifier.weight)
    assert planned.run.start is not None and planned.run.start["backbone_only"] is False
    write_run(tmp_path, planned.run)
    assert read_run(tmp_path) == planned.run
    with pytest.raises(FileNotFoundError, match="not there: no such file"):
        plan(Job(data, tmp_path / "run", TINY, None, start=tmp_path / "not there"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 1}, "batch 1: batch norm and negatives need at least 2 clips; --set batch=2 or more"),
        ({"batch": 13}, "batch 13: an epoch has 12 training clips; --set batch=12 or smaller"),
        ({"width": 10**9}, "width = 1000000000: must be at most 4,096"),
        ({"window": 10**9}, "window = 1000000000: must be at most 100,000"),
        ({"epochs": 10**18}, "epochs = 1000000000000000000: must be at most 1,000,000"),
        ({"repeat": 10**12}, "repeat = 1000000000000: must be at most 100,000"),
        ({"seed": 2**64}, "seed = 18446744073709551616: must be at most 9,223,372,036,854,775,807"),
        ({"temperature": 1e-30}, "temperature = 1e-30: must be at least 0.0001"),
        ({"refine_features": ("answer_ids", "probabilities")}, "refine_features = .* stand alone"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, change: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        plan(Job(data, tmp_path / "run", replace(TINY, **change), None))
    assert not (tmp_path / "run").exists()


def test_a_learned_temperature_that_cannot_start_is_refused(data: Path, skeletons: Skeletons, tmp_path: Path):
    config = replace(TINY, temperature_learned=True, temperature=50.0)
    with pytest.raises(ValueError, match=r"temperature = 50\.0: one that is learned starts between 0\.01 and 10"):
        plan(Job(data, tmp_path / "run", config, caches(data, skeletons)[0]))


def test_a_batch_that_is_smaller_than_its_processes_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    with pytest.raises(ValueError, match="batch 4: not a clip for each of 8 processes; --set batch=8 or more"):
        plan(Job(data, data, TINY, None))


@pytest.mark.parametrize(
    ("config", "mend"),
    [
        (TINY, "choose another split"),
        (replace(TINY, batch=2, validation="3"), "hold out others than --validation 3"),
    ],
    ids=["split", "validation"],
)
def test_a_class_that_is_never_trained_on_is_refused_by_name(
    data: Path, skeletons: Skeletons, config: Config, mend: str
):
    """Also where it is a validation that takes its last clips."""
    label = skeletons.classes.index("kick")
    gone = (skeletons.labels == label) & ((skeletons.columns["subject"] != 3) | (not config.validation))
    sides = np.where(gone, 0, skeletons.splits["xsub"].sides).astype(np.int8)
    write_skeletons(data / "skeletons.h5", replace(skeletons, splits={"xsub": Split(sides)}))
    with pytest.raises(ValueError, match=rf"split xsub has no training clip of 1 of 6 classes \(kick\); {mend}, or"):
        plan(Job(data, data / "run", config, None))


def test_a_class_that_a_split_does_not_count_may_be_empty(data: Path, skeletons: Skeletons):
    label = skeletons.classes.index("kick")
    sides = np.where(skeletons.labels == label, 0, skeletons.splits["xsub"].sides).astype(np.int8)
    counted = tuple(other for other in range(len(skeletons.classes)) if other != label)
    write_skeletons(data / "skeletons.h5", replace(skeletons, splits={"xsub": Split(sides, "zero", counted)}))
    assert len(plan(Job(data, data / "run", TINY, None)).run.classes) == 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda values: np.zeros_like(values), "they carry nothing"),
        (lambda values: values * np.nan, "NaN or Inf in 12 training clips"),
    ],
)
def test_features_that_cannot_teach_are_refused(
    data: Path, skeletons: Skeletons, tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray], message: str
):
    values = np.random.default_rng(0).normal(size=(len(skeletons.names), 4)).astype(np.float32)
    folder = write_cache(data, skeletons.names, {"feature": spoil(values)})
    with pytest.raises(ValueError, match=message):
        plan(Job(data, tmp_path / "run", TINY, folder))
    assert not (tmp_path / "run").exists()


def test_all_training_clips_of_a_split_are_planned(data: Path, skeletons: Skeletons):
    planned = plan(Job(data, data / "run", TINY, None))
    assert planned.split.train.tolist() == skeletons.rows("xsub", TRAIN).tolist() and planned.start is None
