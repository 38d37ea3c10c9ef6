"""The benchmarks of training measure what they say: the same numbers on both sides, and tables that show a miss."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # benchmarks are no part of the package: they are run from the root

from benchmarks import (  # noqa: E402
    training,
    training_colearning,
    training_data,
    training_epoch,
    training_memory,
    training_step,
)
from benchmarks.training_clips import clips, padded  # noqa: E402
from benchmarks.training_errors import compared  # noqa: E402
from benchmarks.training_feeders import feeder  # noqa: E402
from benchmarks.training_networks import ONE, TWO, UCLA, Case, batch_of, original, ours, plain, scores_of  # noqa: E402
from benchmarks.training_rows import Row, alternating, measured, table  # noqa: E402
from mmcl.trainer.config import STREAMS, Config  # noqa: E402

SMALL = {"clips": 4, "frames": 16, "width": 8}
CASES = [replace(TWO, **SMALL, two=4), replace(ONE, **SMALL, two=1), replace(UCLA, **SMALL)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("training_mode", [True, False], ids=["training", "evaluation"])
def test_the_plain_equations_are_our_networks(case: Case, training_mode: bool):
    """In fp64, where rounding cannot hide a difference; the one computes absent bodies, the other counts them."""
    network = plain(case).double().train(training_mode)
    model = ours(case, network).double().train(training_mode)
    x, _ = batch_of(case)
    torch.testing.assert_close(scores_of(model, case)(x.double()), network(x.double()), rtol=1e-9, atol=1e-9)


def test_the_plain_network_has_the_papers_number_of_parameters():
    counts = {case.name: sum(p.numel() for p in plain(case).parameters()) for case in (TWO, ONE, UCLA)}
    assert counts == {TWO.name: 1_462_092, ONE.name: 1_446_672, UCLA.name: 1_426_892}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_path_of_the_networks_takes_part(case: Case):
    """With weights as training starts with them, relations and graphs would hardly count."""
    x, _ = batch_of(case)
    network = plain(case).eval()
    wanted = network(x)
    for name in ("l2.gcn1.alpha", "l9.gcn1.PA", "l3.gcn1.convs.1.conv2.weight", "l8.tcn1.branches.2.0.weight"):
        changed = plain(case).eval()
        changed.get_parameter(name).data.zero_()
        assert (changed(x) - wanted).abs().max() > 1e-4 * wanted.abs().max(), name


def test_a_batch_has_zeros_where_a_body_is_absent():
    x, labels = batch_of(CASES[1])
    assert x[0, ..., 1].any() and not x[1:, ..., 1].any() and x[..., 0].any() and labels.max() < 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_errors_see_a_network_that_is_wrong(case: Case, monkeypatch: pytest.MonkeyPatch):
    """Both sides are near the fp64 run; a network with one weight off is not."""
    for own in compared(case, 0):
        assert own.scores < 1e-4 and own.statistics < 1e-4

    def wrong(case: Case, network: torch.nn.Module) -> torch.nn.Module:
        model = ours(case, network)
        model.get_parameter("backbone.blocks.4.spatial.alpha").data.mul_(1.1)
        return model

    monkeypatch.setattr("benchmarks.training_errors.ours", wrong)
    off, _ = compared(case, 0)
    assert off.scores > 1e-4 and off.gradients > 1e-3


@pytest.mark.parametrize("rule", ["zero", "repeat"])
@pytest.mark.parametrize("augmented", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("stream", STREAMS)
def test_the_plain_feeder_gives_our_values(stream: str, augmented: bool, rule: str):
    """With the crops and angles that it drew; the row of the table says how near they are."""
    skeletons = clips(12, rule)
    config = Config(stream=stream, rotation=training_data.ROTATION)
    one = feeder(padded(skeletons, rule), config, augmented=augmented, checkout=None)
    row = training_data.closeness("", skeletons, rule, config, one, augmented=augmented)
    assert isinstance(row.found, float) and not row.missed


def test_a_feeder_with_other_crops_gives_other_values(monkeypatch: pytest.MonkeyPatch):
    """The difference that the table shows is one of values, not of sizes."""
    skeletons, config = clips(12, "zero"), Config(rotation=training_data.ROTATION)
    one = feeder(padded(skeletons, "zero"), config, augmented=True, checkout=None)
    monkeypatch.setattr("benchmarks.training_feeders.TURN", 0.31)
    assert training_data.closeness("", skeletons, "zero", config, one, augmented=True).missed


def test_the_parts_run_on_small_sizes():
    rows = [row for case in CASES for row in training_step.times(case, None, 1, 0.0, 0.0)]
    rows += training_step.errors(CASES[1], 1)
    rows += training_data.data(None, 1, count=8)
    rows += training_epoch.epoch(1, 64, CASES[0])
    rows += training_colearning.times(CASES[1], None, None, 1)
    assert all(isinstance(row.found, str) or row.found >= 0 for row in rows)
    assert training_memory.peak("ours", CASES[1], None) >= 0


def test_the_authors_step_trains_the_rgb_network_along():
    """A stand-in for Inception-V3 with its interface; its weights change, as the pictures' gradients reach them."""

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, training_colearning.LOGITS)

        def forward(self, x: torch.Tensor) -> object:
            assert x.shape[1:] == (3, 299, 299)
            return type("Out", (), {"logits": self.linear(x.mean((2, 3)))})

    tiny, case = Tiny(), CASES[0]
    before = tiny.linear.weight.detach().clone()
    training_colearning.authors_step(case, plain(case), tiny)()
    assert not torch.equal(tiny.linear.weight, before)


def test_a_missed_target_is_shown_as_missed():
    rows = [
        Row("slow", 1.1, least=1.2),
        Row("fast", 1.3, least=1.2),
        Row("large", 0.8, most=0.75),
        Row("words", "none"),
    ]
    assert [row.missed for row in rows] == [True, False, True, False]
    assert "| slow | 1.1 | at least 1.2: MISSED |" in table(rows) and "| fast | 1.3 | at least 1.2 |" in table(rows)
    assert measured("", [3.0, 1.0, 2.0]).shown == "2 (1 to 3)"


def test_sides_take_turns_and_each_round_goes_the_other_way():
    turns = list[str]()
    seconds = alternating([lambda: turns.append("a"), lambda: turns.append("b")], 2)
    assert "".join(turns) == "ab" + "ba" + "ab" and seconds.shape == (2, 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_part_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Exit code 2 where it alone was asked for, 0 among others; what was found is in a file."""
    assert training.main(["gpu"]) == 2
    assert "not run" in capsys.readouterr().out
    monkeypatch.setattr(
        training, "measures", lambda asked: {part: lambda: [Row("one", 1.0, least=2)] for part in training.PARTS}
    )
    assert training.main(["all", "--out", str(tmp_path / "found.json")]) == 0
    assert "not run" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"machine", "step", "memory", "colearning", "data", "epoch"} and found["step"][0]["missed"]


def test_a_folder_without_the_original_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model/ctrgcn\.py; wanted a checkout"):
        original(TWO, tmp_path)
    with pytest.raises(ValueError, match=r"no feeders/feeder_ntu\.py; wanted a checkout"):
        feeder(padded(clips(1, "zero"), "zero"), Config(), augmented=True, checkout=tmp_path)
