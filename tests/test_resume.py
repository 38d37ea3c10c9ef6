"""A run that is killed or stopped anywhere ends as an unbroken one, bit for bit; chance never depends on it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.tests.training import (
    TINY,
    Order,
    Watch,
    ended,
    features,
    metrics,
    people,
    planned,
    same,
    start,
    trained,
    weights,
    without_seconds,
)
from mmcl.trainer.loop.checkpoint import load_model
from mmcl.trainer.loop.inputs import Inputs, epoch_order, inputs_of
from mmcl.trainer.loop.train import set_up, train
from mmcl.trainer.processes import Share
from mmcl.trainer.run import read_run

EPOCHS = [f"epoch   {epoch}" for epoch in (1, 2, 3, 4)]


def log(out: Path) -> list[str]:
    return (out / "log.txt").read_text().splitlines()


def after(steps: int) -> Callable[[], bool]:
    """A `stop` that says so from that step on."""
    calls = count(1)
    return lambda: next(calls) >= steps


def assert_ended_as(out: Path, whole: Path) -> None:
    """Weights bit for bit, metrics, and an epoch's line in the log once."""
    for name in ("model", "heads"):
        assert same(weights(out, name), weights(whole, name)), (out, name)
    assert without_seconds(out) == without_seconds(whole)
    assert [line.split("/")[0] for line in log(out) if line.startswith("epoch")] == EPOCHS
    assert log(out)[-1] == "kept epoch 4 (last epoch)"


def test_a_run_killed_anywhere_ends_as_an_unbroken_one(data: Path, tmp_path: Path):
    """SIGKILL at several of its 12 steps, half-way through writing the state, and after the last epoch's state.

    Where the state is saved after every step, the resumed run starts in the middle of an epoch.
    """
    features(data)
    trained(data, tmp_path / "whole", rgb=None, text=None)
    often = {f"step{at}": Order(data, tmp_path / f"step{at}", TINY, kill_at=at, save_every=0.0) for at in (1, 5)}
    orders = {
        "seldom": Order(data, tmp_path / "seldom", TINY, kill_at=8),
        "state": Order(data, tmp_path / "state", TINY, half_state=3),
        "end": Order(data, tmp_path / "end", TINY, kill_at_end=True),
        **often,
    }
    running = {name: start([order]) for name, order in orders.items()}
    resumed = {
        "seldom": "resumed after epoch 2",
        "state": "resumed after epoch 2",
        "end": "resumed after epoch 4",
        "step1": None,
        "step5": "resumed after step 1 of epoch 2",
    }
    for name, process in running.items():
        ended(process, -signal.SIGKILL)
        out = tmp_path / name
        assert not (out / "model.safetensors").exists()
        trained(data, out, rgb=None, text=None)
        assert_ended_as(out, tmp_path / "whole")
        assert [line for line in log(out) if line.startswith("resumed")] == ([resumed[name]] if resumed[name] else [])


def test_a_run_that_is_told_to_end_saves_its_step_and_goes_on_from_it(data: Path, tmp_path: Path):
    """SIGTERM within an epoch, in a process of its own, twice; then the same on to the end."""
    features(data)
    trained(data, tmp_path / "whole", rgb=None, text=None)
    out = tmp_path / "run"
    for at, stopped in ((4, "1 2"), (8, "2 3")):  # it is asked after the next step
        told = ended(start([Order(data, out, TINY, kill_at=at, signal=signal.SIGTERM)]))
        assert f"stopped at {stopped}" in told
    assert len(metrics(out)) == 2 and not (out / "model.safetensors").exists()
    trained(data, out, rgb=None, text=None)
    assert_ended_as(out, tmp_path / "whole")
    words = [line for line in log(out) if line.startswith(("stopped", "resumed"))]
    assert words == [
        f"{verb} after step {where}" for where in ("2 of epoch 2", "3 of epoch 3") for verb in ("stopped", "resumed")
    ]


@pytest.mark.parametrize("steps", range(1, 6))
def test_a_stop_after_any_step_is_resumed_exactly(data: Path, tmp_path: Path, steps: int):
    """Stopped again and again after so many steps, until it is over; with an epoch chosen on held-out clips."""
    config = replace(TINY, validation="3", batch=2, epochs=3, schedule="cosine")
    whole = trained(data, tmp_path / "whole", config)
    starts = 0
    while True:
        state = train(planned(data, config), tmp_path / "run", Watch(), stop=after(steps))
        starts += 1
        if state.finished:
            break
        assert state.epoch * 3 + state.step == starts * steps
    assert starts == -(-9 // steps) + (9 % steps == 0)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "whole")
    assert (state.best_epoch, state.best_top1) == (whole.best_epoch, whole.best_top1)


def test_a_stop_in_the_last_step_leaves_a_run_that_one_more_call_ends(data: Path, tmp_path: Path):
    config = replace(TINY, epochs=1)
    state = train(planned(data, config), tmp_path / "run", Watch(), stop=after(3))
    assert (state.finished, state.epoch, state.step) == (False, 0, 3)
    steps: list[int] = []
    assert train(planned(data, config), tmp_path / "run", Watch(lambda done, _: steps.append(done))).finished
    assert steps == [] and len(metrics(tmp_path / "run")) == 1


def all_inputs(data: Path, share: Share, epoch: int, batch: int = 5) -> list[Inputs]:
    """What one process of several computes on in an epoch."""
    config = replace(TINY, batch=batch)
    feed = replace(set_up(planned(data, config, rgb=None, text=None), torch.device("cpu")).feed, share=share)
    order = epoch_order(feed.train, config, epoch)
    return [inputs_of(feed, order, epoch, step) for step in range(feed.steps)]


def flat(inputs: Inputs) -> list[torch.Tensor]:
    """Everything that has a row a clip."""
    return [inputs.rows, *inputs.draws, *(tensor for tensor in inputs.teachers if tensor is not None)]


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_processes_sees_the_same_clips_augmented_the_same(tmp_path: Path, world: int):
    """Together they are the one process's batch, in its order, with its random numbers and its features."""
    data = people(tmp_path / "pairs", "zero", 12)
    features(data)
    whole = all_inputs(data, Share(), epoch=1)
    parts = [all_inputs(data, Share(rank, world), epoch=1) for rank in range(world)]
    for step, wanted in enumerate(whole):
        found = [torch.cat(columns) for columns in zip(*(flat(part[step]) for part in parts), strict=True)]
        assert len(found) == 9 and all(map(torch.equal, found, flat(wanted)))


def test_every_epoch_has_another_order_and_another_augmentation(data: Path):
    features(data)
    first, second, again = (all_inputs(data, Share(), epoch) for epoch in (0, 1, 0))
    for one, other, same_one in zip(first, second, again, strict=True):
        assert not torch.equal(one.rows, other.rows)
        assert all(not torch.equal(a, b) for a, b in zip(one.draws, other.draws, strict=True))
        assert all(map(torch.equal, flat(one), flat(same_one)))


def test_no_two_draws_of_a_run_share_their_numbers():
    """An epoch's order and its first step's augmentation are streams of their own; so are those of seed and seed."""
    from mmcl.trainer.loop.inputs import AUGMENTATION, ORDER, _generator

    keys = [(seed, ORDER, epoch) for seed in range(3) for epoch in range(20)]
    keys += [(seed, AUGMENTATION, epoch, step) for seed in range(3) for epoch in range(20) for step in range(20)]
    first = {torch.rand(2, generator=_generator(*key)).numpy().tobytes() for key in keys}
    assert len(first) == len(keys)


def test_a_repeat_visits_each_clip_as_often():
    rows, config = np.array([3, 5, 8, 13]), replace(TINY, repeat=3)
    orders = [epoch_order(rows, config, epoch) for epoch in (0, 1)]
    assert not np.array_equal(*orders) and np.array_equal(orders[0], epoch_order(rows, config, 0))
    for order in orders:
        assert sorted(order.tolist()) == sorted(rows.tolist() * 3)


@pytest.mark.parametrize("name", ["state.pt", "model.safetensors"])
def test_a_byte_that_flipped_on_the_disk_is_not_gone_on_with(data: Path, tmp_path: Path, name: str):
    """Neither format's reader looks at a checksum: ours does."""
    out = tmp_path / "run"
    trained(data, out, replace(TINY, epochs=1))
    content = bytearray((out / name).read_bytes())
    content[len(content) // 2] ^= 1
    (out / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: damaged \(.*\); move it away"):
        _ = trained(data, out, replace(TINY, epochs=1)) if name == "state.pt" else load_model(out, read_run(out))


def test_weights_of_another_run_are_told_from_the_runs_own(data: Path, tmp_path: Path):
    """A file that was copied into the wrong folder would be tested as another stream's, and nobody would know."""
    joint, bone = tmp_path / "joint", tmp_path / "bone"
    for out in (joint, bone):
        trained(data, out, replace(TINY, epochs=1, stream=out.name))
    (joint / "model.safetensors").write_bytes((bone / "model.safetensors").read_bytes())
    said = r"weights of acted xsub, ctrgcn bone, seed \d, but run.json is of acted xsub, ctrgcn joint"
    with pytest.raises(ValueError, match=said):
        load_model(joint, read_run(joint))
    wider = replace(read_run(bone), config=replace(TINY, epochs=1, stream="bone", width=16))
    with pytest.raises(ValueError, match="weights of another network than run"):
        load_model(bone, wider)
