"""Training: the same weights whatever happens on the way, nothing mixed, nothing chosen in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.lock import locked
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests.training import TINY, Watch, features, metrics, people, planned, same, trained, weights
from mmcl.trainer.data.samples import choose_cache
from mmcl.trainer.loop.checkpoint import EpochMetrics
from mmcl.trainer.loop.train import train
from mmcl.trainer.run import read_run


def test_a_seed_decides_the_weights(data: Path, tmp_path: Path):
    config = replace(TINY, epochs=1)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        torch.manual_seed(len(name))  # what ran before does not matter
        trained(data, tmp_path / name, replace(config, seed=seed))
    assert same(weights(tmp_path / "one"), weights(tmp_path / "again"))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_training_leaves_the_callers_random_numbers_alone(data: Path, tmp_path: Path):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    trained(data, tmp_path / "run", replace(TINY, epochs=1))
    assert torch.equal(torch.rand(3), wanted)


def test_heads_that_weigh_nothing_change_nothing(data: Path, tmp_path: Path):
    """Start, order and augmentation of the network do not depend on which heads are there."""
    features(data)
    config = replace(TINY, epochs=2, align_weight=0.0, refine_weight=0.0)
    trained(data, tmp_path / "none", config)
    trained(data, tmp_path / "rgb", config, rgb=None)
    trained(data, tmp_path / "both", config, rgb=None, text=None)
    trained(data, tmp_path / "weighed", replace(config, align_weight=0.1), rgb=None)
    assert same(weights(tmp_path / "none"), weights(tmp_path / "rgb"))
    assert same(weights(tmp_path / "none"), weights(tmp_path / "both"))
    assert not same(weights(tmp_path / "none"), weights(tmp_path / "weighed"))


def test_the_same_command_again_finds_all_done(data: Path, tmp_path: Path):
    trained(data, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    watch = Watch(lambda *_: pytest.fail("trained"), lambda _: pytest.fail("trained"))
    done = train(planned(data), tmp_path / "run", watch)
    assert done.epoch == TINY.epochs and done.finished
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_another_run_in_the_folder_is_refused_with_what_differs(data: Path, tmp_path: Path):
    features(data)
    trained(data, tmp_path / "run", replace(TINY, epochs=1))
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    key = choose_cache(data, "rgb", None)
    with pytest.raises(ValueError) as caught:
        trained(data, tmp_path / "run", replace(TINY, epochs=1, lr=0.2, stream="bone"), rgb=None)
    assert key is not None
    assert str(caught.value).startswith(
        f"{tmp_path / 'run'}: holds another run; give another --out\n"
        f"  stream: there joint, asked bone\n  lr: there 0.05, asked 0.2\n  rgb: there none, asked {key.name}"
    )
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_data_set_that_was_prepared_again_is_another_run(data: Path, tmp_path: Path):
    trained(data, tmp_path / "run", replace(TINY, epochs=1))
    skeletons = read_skeletons(data / "skeletons.h5")
    moved = Ragged(skeletons.joints.values + np.float32(0.5), skeletons.joints.offsets)
    write_skeletons(data / "skeletons.h5", replace(skeletons, joints=moved))
    with pytest.raises(ValueError, match=rf"skeletons: there {skeletons.digest}, asked "):
        trained(data, tmp_path / "run", replace(TINY, epochs=1))


def test_a_data_set_that_was_moved_is_the_same_run(data: Path, tmp_path: Path):
    trained(data, tmp_path / "run", replace(TINY, epochs=1))
    data.rename(tmp_path / "elsewhere")
    assert trained(tmp_path / "elsewhere", tmp_path / "run", replace(TINY, epochs=1)).epoch == 1


def test_the_network_and_its_heads_lie_in_files_of_their_own(data: Path, tmp_path: Path):
    """What is deployed holds no trace of the heads; without heads there is no such file."""
    features(data)
    trained(data, tmp_path / "both", replace(TINY, epochs=1), rgb=None, text=None)
    trained(data, tmp_path / "none", replace(TINY, epochs=1))
    model = weights(tmp_path / "both")
    assert {name.split(".")[0] for name in model} == {"backbone", "classifier"}
    assert {name: value.shape for name, value in model.items()} == {
        name: value.shape for name, value in weights(tmp_path / "none").items()
    }
    heads = weights(tmp_path / "both", "heads")
    assert {name.split(".")[0] for name in heads} == {"align", "refine"}
    assert {"align.standardise.mean", "refine.standardise.deviation", "refine.matrices"} <= heads.keys()
    assert not (tmp_path / "none" / "heads.safetensors").exists()


def test_run_json_says_what_it_was_made_of(data: Path, tmp_path: Path):
    names = read_skeletons(data / "skeletons.h5").names
    features(data, failed=(names[0], names[1]))  # subjects 1 and 2: one of them trains
    config = replace(TINY, epochs=1, allow_missing=True)
    with pytest.raises(ValueError, match="failed rows for 1 training clips"):
        planned(data, replace(config, allow_missing=False), rgb=None)
    trained(data, tmp_path / "run", config, rgb=None)
    run = read_run(tmp_path / "run")
    assert run.config == config and run.train_clips == 12 and run.text == ()
    assert run.rgb is not None and run.rgb["settings"]["model"] == "net"
    assert run.missing == {"rgb": [names[0]]}
    assert run.skeletons == read_skeletons(data / "skeletons.h5").digest
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "1 clips without features train on the classification loss only" in log


def test_metrics_have_a_line_an_epoch_and_terms_that_add_up(data: Path, tmp_path: Path):
    features(data)
    seen: list[EpochMetrics] = []
    steps: list[tuple[int, int]] = []
    job = planned(data, rgb=None, text=None)
    train(job, tmp_path / "run", Watch(lambda *step: steps.append(step), seen.append))
    lines = metrics(tmp_path / "run")
    assert [line["epoch"] for line in lines] == ["1", "2", "3", "4"] and [line.epoch for line in seen] == [1, 2, 3, 4]
    assert steps == [(done, 12) for done in range(1, 13)]
    for line in lines:
        terms = float(line["classify"]) + 0.1 * float(line["align"]) + 0.2 * float(line["refine"])
        assert float(line["loss"]) == pytest.approx(terms, rel=1e-5)
        assert float(line["held_out_top1"]) == -1


def test_validation_keeps_the_best_epoch(data: Path, tmp_path: Path):
    """The best epoch's weights are those of a run that was over after it, and subject 3 was not trained on."""
    config = replace(TINY, validation="3", epochs=6, milestones=())
    state = trained(data, tmp_path / "run", config)
    found = [float(line["held_out_top1"]) for line in metrics(tmp_path / "run")]
    assert len(found) == 6 and min(found) >= 0
    assert state.best_epoch == found.index(max(found)) + 1 and state.best_top1 == max(found)
    trained(data, tmp_path / "short", replace(config, epochs=state.best_epoch))
    assert same(weights(tmp_path / "run"), weights(tmp_path / "short"))
    run = read_run(tmp_path / "run")
    assert (run.train_clips, run.held_out_clips, run.selection) == (6, 6, "best epoch on held-out 3")
    assert (
        (tmp_path / "run" / "log.txt")
        .read_text()
        .endswith(f"kept epoch {state.best_epoch} (best epoch on held-out 3)\n")
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 13}, "batch 13: an epoch has 12 training clips; --set batch=12 or smaller"),
        ({"batch": 25, "repeat": 2}, "batch 25: an epoch has 24 training clips"),
        ({"width": 12}, "width 12: CTR-GCN wants a multiple of 8"),
        ({"backbone": "stgcn"}, "backbone 'stgcn': known are ctrgcn"),
        ({"split": "xview"}, "acted has no split 'xview'; it has given, xsub"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, change: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        trained(data, tmp_path / "run", replace(TINY, **change))
    assert not (tmp_path / "run").exists()


def test_selecting_on_a_test_side_that_is_empty_is_refused(data: Path):
    skeletons = read_skeletons(data / "skeletons.h5")
    everything = {name: Split(np.full_like(split.sides, TRAIN)) for name, split in skeletons.splits.items()}
    write_skeletons(data / "skeletons.h5", replace(skeletons, splits=everything))
    with pytest.raises(ValueError, match="select_on_test: split xsub of acted has no test clips"):
        planned(data, replace(TINY, select_on_test=True))


def test_a_loss_that_explodes_stops_the_run_and_keeps_the_last_good_state(data: Path, tmp_path: Path):
    """The line says where, on which clips, what is kept, and what to do."""
    config = replace(TINY, lr=1e9, warmup=0, milestones=(), epochs=50)
    clips = "|".join(read_skeletons(data / "skeletons.h5").names)
    wanted = (
        rf"^epoch (\d+), step \d+: .* not finite.* ((on ({clips})(, ({clips}))*)|after it); .* a smaller lr, or with"
    )
    with pytest.raises(RuntimeError, match=wanted) as caught:
        trained(data, tmp_path / "run", config)
    done = int(str(caught.value).split(",")[0].split()[1]) - 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
    if done:
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert state["epoch"] == done == len(metrics(tmp_path / "run"))
        learned = [v for part in state["weights"].values() for name, v in part.items() if "running" not in name]
        assert all(value.isfinite().all() for value in learned)
    else:
        assert not (tmp_path / "run" / "state.pt").exists()


def test_good_epochs_outlive_a_later_explosion(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two good epochs, then a rate that is far too high: what the two learned lies in state.pt, twice over."""
    rate = lambda config, epoch, *_: 0.05 if epoch < 2 else 1e30  # noqa: E731
    monkeypatch.setattr("mmcl.trainer.loop.epoch.learning_rate", rate)
    trained(data, tmp_path / "good", replace(TINY, epochs=2))
    for _ in range(2):  # a second attempt ends the same way and harms nothing
        with pytest.raises(RuntimeError, match=r"^epoch 3, step \d: .* not finite.*; epoch 2 is kept in state\.pt; "):
            trained(data, tmp_path / "run")
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert (state["epoch"], state["step"]) == (2, 0) and len(metrics(tmp_path / "run")) == 2
        assert same(state["weights"]["model"], weights(tmp_path / "good"))


def test_a_weight_that_is_not_finite_after_the_last_step_is_no_good_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The loss of the epoch's steps was finite; the last of them spoiled the weights."""
    rate = lambda config, epoch, step, steps: float("inf") if (epoch, step) == (1, steps - 1) else 0.01  # noqa: E731
    monkeypatch.setattr("mmcl.trainer.loop.epoch.learning_rate", rate)
    with pytest.raises(RuntimeError, match=r"^epoch 2, step 3: a weight is not finite after it; epoch 1 is kept"):
        trained(data, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("what", ["joints", "features"])
def test_clips_that_are_not_finite_are_named(data: Path, tmp_path: Path, what: str):
    """Batch norm spreads a NaN over the whole batch; the line names the clip that brought it, and no other."""
    features(data)
    job = planned(data, rgb=None)
    row = int(job.split.train[5])
    name = job.skeletons.names[row]
    if what == "joints":
        joints = job.skeletons.joints
        values = joints.values.copy()
        values[joints.offsets[row] : joints.offsets[row + 1]] = np.nan
        job = replace(job, skeletons=replace(job.skeletons, joints=Ragged(values, joints.offsets)))
    else:
        assert job.rgb is not None
        column = job.rgb.parts[0].columns["feature"].copy()
        column[job.rgb.parts[0].rows[row]] = np.inf
        job = replace(job, rgb=replace(job.rgb, parts=(replace(job.rgb.parts[0], columns={"feature": column}),)))
    wanted = (
        rf"^epoch 1, step \d: the loss \(.*\) is not finite: NaN or Inf in the {what} of {name}; nothing is kept; mend"
    )
    with pytest.raises(RuntimeError, match=wanted):
        train(job, tmp_path / "run", Watch())


def test_a_clipped_gradient_keeps_a_rate_that_is_too_high_from_exploding(data: Path, tmp_path: Path):
    config = replace(TINY, lr=30.0, warmup=0, milestones=(), epochs=3, weight_decay=0.0)
    with pytest.raises(RuntimeError, match="clip_grad"):
        trained(data, tmp_path / "wild", replace(config, lr=1e9))
    trained(data, tmp_path / "clipped", replace(config, lr=1e9, clip_grad=1e-10))
    assert all(value.isfinite().all() for value in weights(tmp_path / "clipped").values())


def test_two_trainings_never_write_into_one_run(data: Path, tmp_path: Path):
    trained(data, tmp_path / "run", replace(TINY, epochs=1))
    wanted = r"process \d+ on .* is at work here, training this run; wait for it, or give another --out"
    with locked(tmp_path / "run" / "train.lock", wait=False), pytest.raises(BlockingIOError, match=wanted):
        trained(data, tmp_path / "run", replace(TINY, epochs=1))


def test_weights_to_start_from_replace_those_of_the_seed(data: Path, tmp_path: Path):
    """All that are given; the others are the seed's, and a state on the disk goes before both."""
    config = replace(TINY, epochs=1, lr=1e-9, weight_decay=0.0)
    trained(data, tmp_path / "other", replace(TINY, seed=8))
    trained(data, tmp_path / "seed", config)
    found = {name: value for name, value in weights(tmp_path / "other").items() if name.startswith("backbone")}
    job = replace(planned(data, config), start=found)
    train(job, tmp_path / "run", Watch())
    after, seed = weights(tmp_path / "run"), weights(tmp_path / "seed")
    learned = [name for name in found if "running" not in name and "tracked" not in name]
    assert all(torch.allclose(after[name], found[name], atol=1e-6) for name in learned)
    assert torch.allclose(after["classifier.weight"], seed["classifier.weight"], atol=1e-6)
    assert not torch.allclose(
        seed["backbone.blocks.0.spatial.value.weight"], found["backbone.blocks.0.spatial.value.weight"]
    )
    (tmp_path / "run" / "model.safetensors").unlink()
    train(replace(job, start={name: value + 1 for name, value in found.items()}), tmp_path / "run", Watch())
    assert same(weights(tmp_path / "run"), after)


def test_classes_bodies_and_joints_come_from_the_data(tmp_path: Path):
    data = people(tmp_path / "pairs")
    trained(data, tmp_path / "run", replace(TINY, epochs=1, batch=3))
    run, model = read_run(tmp_path / "run"), weights(tmp_path / "run")
    assert (run.slots, run.body_rule, run.classes, run.layout) == (2, "repeat", ("hug", "push", "wave"), KINECT_V2)
    assert model["classifier.weight"].shape == (3, 32)
    assert model["backbone.data_bn.weight"].shape == (2 * 25 * 3,)
    assert model["backbone.blocks.0.spatial.topology"].shape == (3, 25, 25)


def test_features_made_anew_under_their_key_are_another_run(data: Path, tmp_path: Path):
    features(data)
    trained(data, tmp_path / "run", rgb="net", text="llm")
    shutil.rmtree(data / "rgb")
    names = list(read_skeletons(data / "skeletons.h5").names)
    folder = create_cache(data, Recipe("rgb", "acted", {"model": "net"}))
    write_part(folder, 0, names, [""] * len(names), {"feature": np.random.default_rng(1).normal(size=(len(names), 6))})
    merge(folder)
    with pytest.raises(ValueError, match=r"holds another run; .*\n  rgb: there \w{12} with rows \w{8}, asked \w{12}"):
        trained(data, tmp_path / "run", rgb="net", text="llm")
