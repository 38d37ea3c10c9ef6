"""Training: the same weights whatever happens on the way, nothing mixed, nothing chosen in silence."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.trainer.config import Config
from mmcl.trainer.data.samples import choose_cache
from mmcl.trainer.loop.checkpoint import EpochMetrics, State
from mmcl.trainer.loop.train import epoch_order, learning_rate, train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.run import read_run

TINY = Config(
    split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=4, warmup=1, milestones=(3,), lr=0.05, seed=3
)

KILLED = """
import os, signal, sys, torch
from pathlib import Path
from mmcl.trainer.config import Config, from_dict
from mmcl.trainer.data.samples import choose_cache
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.loop.train import train
import json
torch.set_num_threads(1)
data, out, where, config = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], from_dict(json.loads(sys.argv[4]), "")
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
save, saved = torch.save, []
def half(content, path):
    saved.append(path)
    if where == "state" and len(saved) == 3:
        Path(path).write_bytes(b"PK half a file")
        die()
    save(content, path)
torch.save = half
planned = plan(Job(data, out, config, choose_cache(data, "rgb", None), choose_cache(data, "text", None)))
train(planned, out,
      lambda done, total: die() if where == "step" and done == 8 else None,
      lambda line: die() if where == "end" and line.epoch == config.epochs else None)
"""


def features(data: Path, *, failed: tuple[str, ...] = ()) -> None:
    """An RGB and a text cache for all clips, by model `net` and `llm`."""
    names = list(read_skeletons(data / "skeletons.h5").names)
    rng = np.random.default_rng(0)
    reasons = ["broken video" if name in failed else "" for name in names]
    for kind, model, column in (("rgb", "net", "feature"), ("text", "llm", "prompt_feature")):
        folder = create_cache(data, Recipe(kind, "acted", {"model": model}))
        write_part(folder, 0, names, reasons, {column: rng.normal(size=(len(names), 6)).astype(np.float32)})
        merge(folder)


def planned(data: Path, config: Config = TINY, *, rgb: str | None = "none", text: str | None = "none"):
    return plan(Job(data, data / "out", config, choose_cache(data, "rgb", rgb), choose_cache(data, "text", text)))


def trained(data: Path, out: Path, config: Config = TINY, **caches: str | None) -> State:
    return train(planned(data, config, **caches), out, lambda done, total: None, lambda line: None)


def weights(out: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"{name}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def metrics(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(out: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in metrics(out)]


def test_a_run_killed_anywhere_ends_as_an_unbroken_one(data: Path, tmp_path: Path):
    """SIGKILL in the middle of an epoch, half-way through writing the state, and after the last epoch's state."""
    features(data)
    trained(data, tmp_path / "whole", rgb=None, text=None)
    config = json.dumps({name: getattr(TINY, name) for name in TINY.__dataclass_fields__})
    processes = {
        where: subprocess.Popen([sys.executable, "-c", KILLED, data, tmp_path / where, where, config])
        for where in ("step", "state", "end")
    }
    for where, process in processes.items():
        out = tmp_path / where
        assert process.wait(120) == -signal.SIGKILL, where
        assert not (out / "model.safetensors").exists()
        assert len(metrics(out)) == {"step": 2, "state": 2, "end": 4}[where]
        trained(data, out, rgb=None, text=None)
        for name in ("model", "heads"):
            assert same(weights(out, name), weights(tmp_path / "whole", name)), (where, name)
        assert without_seconds(out) == without_seconds(tmp_path / "whole")
        log = (out / "log.txt").read_text().splitlines()
        assert [line.split("/")[0] for line in log if line.startswith("epoch")] == [
            f"epoch   {e}" for e in (1, 2, 3, 4)
        ]
        assert f"resumed after epoch {4 if where == 'end' else 2}" in log and log[-1] == "kept epoch 4 (last epoch)"


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


def test_epochs_differ_in_order_and_a_repeat_visits_each_clip_as_often():
    rows = np.array([3, 5, 8, 13])
    config = replace(TINY, repeat=3)
    orders = [epoch_order(rows, config, epoch) for epoch in (0, 1)]
    assert not torch.equal(*orders) and torch.equal(orders[0], epoch_order(rows, config, 0))
    for order in orders:
        assert sorted(order.tolist()) == sorted(rows.tolist() * 3)


def test_the_rate_warms_up_and_falls_at_each_milestone():
    config = Config(lr=0.1, warmup=5, milestones=(8, 10))
    rates = [learning_rate(config, epoch) for epoch in range(12)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert learning_rate(replace(config, warmup=0), 0) == 0.1


def test_the_same_command_again_finds_all_done(data: Path, tmp_path: Path):
    trained(data, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    done = train(planned(data), tmp_path / "run", lambda *_: pytest.fail("trained"), lambda _: pytest.fail("trained"))
    assert done.epoch == TINY.epochs
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
    assert run.config == config and run.train_clips == 12 and run.text is None
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
    train(job, tmp_path / "run", lambda *step: steps.append(step), seen.append)
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
    config = replace(TINY, lr=1e9, warmup=0, milestones=(), epochs=50)
    with pytest.raises(RuntimeError, match=r"epoch (\d+): the loss or a weight is not finite; .* smaller lr") as caught:
        trained(data, tmp_path / "run", config)
    done = int(str(caught.value).split(":")[0].split()[1]) - 1
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
    monkeypatch.setattr("mmcl.trainer.loop.train.learning_rate", lambda config, epoch: 0.05 if epoch < 2 else 1e30)
    trained(data, tmp_path / "good", replace(TINY, epochs=2))
    for _ in range(2):  # a second attempt ends the same way and harms nothing
        with pytest.raises(
            RuntimeError, match=r"epoch 3: .* not finite; epoch 2 is kept in state\.pt; .* another --out"
        ):
            trained(data, tmp_path / "run")
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert state["epoch"] == 2 == len(metrics(tmp_path / "run"))
        assert same(state["weights"]["model"], weights(tmp_path / "good"))


def pairs_of_people(folder: Path) -> Path:
    """Nine clips of 25 joints, some with two bodies, three classes."""
    rng = np.random.default_rng(0)
    bodies = np.array([1, 2] * 4 + [2])
    found = [rng.normal(size=(m * 20, 25, 3)).astype(np.float32) for m in bodies]
    sides = np.array([TRAIN] * 6 + [TEST] * 3, np.int8)
    folder.mkdir()
    skeletons = Skeletons(
        dataset="pairs",
        classes=("hug", "push", "wave"),
        layout=KINECT_V2,
        names=tuple(f"clip{row}" for row in range(9)),
        labels=np.arange(9) % 3,
        bodies=bodies,
        joints=Ragged.of(found),
        splits={"xsub": Split(sides, "repeat")},
    )
    write_skeletons(folder / "skeletons.h5", skeletons)
    return folder


def test_classes_bodies_and_joints_come_from_the_data(tmp_path: Path):
    data = pairs_of_people(tmp_path / "pairs")
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
    write_part(folder, 0, names, [""] * len(names), {"feature": np.ones((len(names), 6), np.float32)})
    merge(folder)
    with pytest.raises(ValueError, match=r"holds another run; .*\n  rgb: there \w{12} with rows \w{8}, asked \w{12}"):
        trained(data, tmp_path / "run", rgb="net", text="llm")
