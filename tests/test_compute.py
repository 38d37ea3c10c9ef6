"""How the network is computed: bfloat16, compiled, absent bodies once, and a memory that is too small."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmcl.tests.training import TINY, features, metrics, people, planned, same, trained, weights
from mmcl.trainer.loop.compute import compiled, outputs_of
from mmcl.trainer.loop.epoch import forward_backward
from mmcl.trainer.loop.inputs import epoch_order, inputs_of
from mmcl.trainer.loop.train import set_up

CPU = torch.device("cpu")
SHORT = replace(TINY, epochs=1)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve training clips with room for two bodies; absent ones are zero."""
    folder = people(tmp_path / "pairs", "zero", 12)
    features(folder)
    return folder


def gradients(data: Path, *, slots: int | None = None, **changes: object) -> dict[str, torch.Tensor]:
    """Of the first step; `slots` = 0 computes every absent body."""
    training = set_up(planned(data, replace(TINY, **changes), rgb=None, text=None), CPU)
    feed = training.feed if slots is None else replace(training.feed, slots=slots)
    training.model.train()
    forward_backward(training, inputs_of(feed, epoch_order(feed.train, feed.config, 0), 0, 0))
    return {name: p.grad.clone() for name, p in training.model.named_parameters() if p.grad is not None}


def test_bodies_that_are_absent_are_computed_once_and_change_nothing(pairs: Path):
    saved, plain = gradients(pairs), gradients(pairs, slots=0)
    assert saved.keys() == plain.keys() and len(saved) > 100
    for name, value in plain.items():
        assert torch.allclose(saved[name], value, atol=1e-4 + 1e-3 * value.abs().max().item()), name


def test_training_computes_absent_bodies_once(pairs: Path, tmp_path: Path):
    """Four clips, two with one body: six bodies and one that stands for the absent two; filled up when compiled."""
    training = set_up(planned(pairs), CPU)
    rows = training.feed.train[:4]
    bodies = inputs_of(training.feed, rows, 0, 0).bodies
    assert bodies is not None and bodies.weight.tolist() == [1, 1, 1, 1, 1, 1, 2]
    eight = replace(training.feed, config=replace(TINY, batch=8, compile="default"))
    many = replace(eight, config=replace(eight.config, batch=12))
    assert [len(inputs_of(feed, feed.train, 0, 0).bodies.pick) for feed in (eight, many)] == [13, 19]  # type: ignore[union-attr]


def test_a_first_body_that_stands_in_is_computed_like_any_other(tmp_path: Path):
    training = set_up(planned(people(tmp_path / "pairs", "repeat", 12)), CPU)
    assert inputs_of(training.feed, training.feed.train, 0, 0).bodies is None


def test_bfloat16_computes_the_network_and_nothing_else(pairs: Path):
    """Outputs, and so losses, are float32; they differ from those of float32, but not by much."""
    training = set_up(planned(pairs), CPU)
    x = torch.randn(2, 3, 16, 25, 2, generator=torch.Generator().manual_seed(0))
    exact = outputs_of(training.model, x, None, TINY)
    half = outputs_of(training.model, x, None, replace(TINY, precision="bf16"))
    assert half.scores.dtype == half.feature.dtype == torch.float32
    assert not torch.equal(half.scores, exact.scores)
    assert torch.allclose(half.scores, exact.scores, atol=0.1 * exact.scores.abs().max().item())


def test_a_run_in_bfloat16_ends_with_weights_in_float32(pairs: Path, tmp_path: Path):
    for name, precision in (("fp32", "fp32"), ("bf16", "bf16")):
        trained(pairs, tmp_path / name, replace(SHORT, precision=precision), rgb=None, text=None)
    half, exact = weights(tmp_path / "bf16"), weights(tmp_path / "fp32")
    assert {value.dtype for name, value in half.items() if "tracked" not in name} == {torch.float32}
    assert not same(half, exact)
    losses = [float(metrics(tmp_path / name)[0]["loss"]) for name in ("bf16", "fp32")]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_a_clipped_gradient_has_that_norm(pairs: Path):
    training = set_up(planned(pairs, rgb=None, text=None), CPU)
    training.model.train()
    found = inputs_of(training.feed, training.feed.train, 0, 0)

    def norm(largest: float) -> float:
        forward_backward(training, found)
        training.gradients.clip(largest)
        weights = [*training.model.parameters(), *training.heads.parameters()]
        return sum(float((p.grad**2).sum()) for p in weights if p.grad is not None) ** 0.5

    free = norm(0.0)
    assert norm(free / 3) == pytest.approx(free / 3, rel=1e-3) and norm(free * 2) == pytest.approx(free, rel=1e-5)


def test_a_trial_leaves_no_trace(pairs: Path):
    """A compiler that fails after it has computed: statistics and gradients are as before, the reason is a line."""
    training = set_up(planned(pairs), CPU)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.model.train()

    def trial(network: object) -> None:
        forward_backward(training, inputs_of(training.feed, training.feed.train, 0, 0))
        raise RuntimeError("no compiler\nand a long story")

    network, why = compiled(training.model, replace(TINY, compile="default"), CPU, trial)
    assert network is training.model
    assert why == "compile = default: not compiled, RuntimeError: no compiler; training goes on without"
    assert same(before, training.model.state_dict())
    assert all(parameter.grad is None for parameter in training.model.parameters())


COMPILED = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from mmcl.tests.training import TINY, Watch, planned, train
torch.set_num_threads(1)
config = replace(TINY, epochs=1, batch=6, compile="default")
train(planned(Path(sys.argv[1]), config, rgb=None, text=None), Path(sys.argv[2]), Watch())
"""


def compile_in_a_process(data: Path, out: Path, **environment: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", COMPILED, data, out], env=os.environ | environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stderr


def test_without_a_compiler_training_goes_on_and_says_why(pairs: Path, tmp_path: Path):
    """In one line, on the terminal and in the log; the weights are those of a run that was not to be compiled."""
    said = compile_in_a_process(
        pairs, tmp_path / "run", CXX="/nonexistent", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache")
    )
    (line,) = [line for line in (tmp_path / "run" / "log.txt").read_text().splitlines() if "not compiled" in line]
    assert line.startswith("compile = default: not compiled, ") and "/nonexistent" in line
    assert line.endswith("; training goes on without") and line in said
    trained(pairs, tmp_path / "eager", replace(SHORT, batch=6), rgb=None, text=None)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "eager"))


SHORT_OF_MEMORY = """
import resource, sys, torch
from dataclasses import replace
from pathlib import Path
from mmcl.tests.training import TINY, Watch, planned, train
torch.set_num_threads(1)
config = replace(TINY, epochs=1, width=32, window=128, batch=12)
job = planned(Path(sys.argv[1]), config, rgb=None, text=None)
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 800_000_000,) * 2)
train(job, Path(sys.argv[2]), Watch())
"""


def test_a_batch_that_does_not_fit_ends_in_a_line_with_one_that_does(pairs: Path, tmp_path: Path):
    """Measured, in a process that may take 800 MB more; the step that failed leaves no weights."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, pairs, tmp_path / "run"]
    process = subprocess.run(command, capture_output=True, text=True)
    line = process.stderr.splitlines()[-1]
    found = re.match(
        r"RuntimeError: batch 12 does not fit into the memory of cpu .*; (\d+) fits \(measured\): --set", line
    )
    assert process.returncode == 1 and found and 2 <= int(found[1]) < 12, process.stderr
    assert not (tmp_path / "run" / "state.pt").exists()
