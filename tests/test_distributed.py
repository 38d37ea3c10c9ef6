"""Two real processes train as one does with the same global batch, and only one of them writes."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmcl.tests.training import (
    TINY,
    Order,
    Watch,
    ended,
    features,
    launch,
    metrics,
    people,
    planned,
    trained,
    weights,
    without_seconds,
)
from mmcl.trainer.loop.train import train
from mmcl.trainer.run import read_run

# One rounding of a weight grows twentyfold in a step at a usual rate: where a weight of 1e-6 changes sign, its whole
# channel does. At this rate weights move by 2e-3 in all, and rounding stays below 5e-5.
CONFIG = replace(TINY, lr=5e-5, epochs=2, warmup=0, milestones=())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training clips with room for two bodies, absent ones are zero; features of both kinds."""
    folder = people(tmp_path_factory.mktemp("data") / "pairs", "zero", 12)
    features(folder)
    return folder


def assert_close(out: Path, whole: Path) -> None:
    """Weights, statistics and metrics are the same to rounding."""
    for name in ("model", "heads"):
        found, wanted = weights(out, name), weights(whole, name)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.allclose(found[key].double(), value.double(), rtol=1e-4, atol=1e-4), (key, out)
    for found, wanted in zip(without_seconds(out), without_seconds(whole), strict=True):
        for key in ("loss", "classify", "align", "refine", "train_top1", "held_out_top1", "lr"):
            assert float(found[key]) == pytest.approx(float(wanted[key]), rel=1e-3), key


def test_two_processes_are_as_good_as_one(pairs: Path, tmp_path: Path):
    """An even batch, an odd one, an epoch chosen on the test split; a stop asked of one process stops both.

    What was stopped, or killed by SIGKILL, on two processes goes on in one.
    """
    even, odd = CONFIG, replace(CONFIG, batch=5)
    chosen = replace(CONFIG, select_on_test=True, epochs=1)
    orders = [
        Order(pairs, tmp_path / "even", even),
        Order(pairs, tmp_path / "odd", odd),
        Order(pairs, tmp_path / "chosen", chosen),
        Order(pairs, tmp_path / "stopped", even, stop_at=2, stop_rank=1),
        Order(pairs, tmp_path / "killed", odd, kill_at=3, save_every=0.0),
    ]
    first, second = launch(orders)
    for name, order in zip(("even", "odd", "chosen"), orders, strict=False):
        trained(pairs, tmp_path / f"{name}-whole", order.config, rgb=None, text=None)
    said = [ended(first, -signal.SIGKILL), ended(second, 1)]  # the other finds that it is alone, and ends
    for rank, out in enumerate(said):
        assert out.splitlines()[:4] == [f"rank {rank} finished"] * 3 + [f"rank {rank} stopped at 0 2"]
    for name in ("stopped", "killed"):
        assert not (tmp_path / name / "model.safetensors").exists()
        trained(pairs, tmp_path / name, even if name == "stopped" else odd, rgb=None, text=None)
    for name in ("even", "odd", "chosen", "stopped", "killed"):
        whole = {"stopped": "even", "killed": "odd"}.get(name, name)
        assert_close(tmp_path / name, tmp_path / f"{whole}-whole")
        log = (tmp_path / name / "log.txt").read_text().splitlines()
        assert len([line for line in log if line.startswith("epoch")]) == read_run(tmp_path / name).config.epochs
        assert len([line for line in log if line.startswith("kept")]) == 1
    assert metrics(tmp_path / "chosen")[0]["held_out_top1"] == metrics(tmp_path / "chosen-whole")[0]["held_out_top1"]


def test_what_one_process_began_two_go_on_with(pairs: Path, tmp_path: Path):
    """With the same state on both, though only one reads it."""
    trained(pairs, tmp_path / "whole", CONFIG, rgb=None, text=None)
    calls = iter(range(10))
    state = train(planned(pairs, CONFIG, rgb=None, text=None), tmp_path / "run", Watch(), stop=lambda: next(calls) == 1)
    assert (state.epoch, state.step, state.finished) == (0, 2, False)
    for process in launch([Order(pairs, tmp_path / "run", CONFIG)]):
        ended(process)
    assert_close(tmp_path / "run", tmp_path / "whole")


def test_another_runs_folder_is_refused_in_every_process_and_none_waits(pairs: Path, tmp_path: Path):
    """Only one of them looks."""
    trained(pairs, tmp_path / "other", replace(CONFIG, epochs=1))
    for said in [ended(process, 1) for process in launch([Order(pairs, tmp_path / "other", CONFIG)])]:
        assert "holds another run" in said


LAUNCHED = """
import sys
from pathlib import Path
from mmcl.tests.training import Order, obey
from mmcl.tests.test_distributed import CONFIG
obey(Order(Path(sys.argv[1]), Path(sys.argv[2]), CONFIG).to_json())
"""


def test_torchrun_starts_them(pairs: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(LAUNCHED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    done = subprocess.run([*command, pairs, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "rank 0 finished", "rank 1 finished"]
    trained(pairs, tmp_path / "whole", CONFIG, rgb=None, text=None)
    assert_close(tmp_path / "run", tmp_path / "whole")
