"""The losses on the classification scores: their equations, their choice, and what a run says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl.tests.training import TINY, people, planned, same, trained, weights
from mmcl.trainer.colearning.classify import CLASSIFY, classify_loss
from mmcl.trainer.colearning.objective import Heads, Teachers, losses
from mmcl.trainer.config import Config
from mmcl.trainer.model import Outputs
from mmcl.trainer.run import read_run
from mmcl.trainer.testing.notes import changed_options

N, K = 7, 5


@pytest.fixture
def scores() -> Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(N) % K


def test_cross_entropy_is_minus_the_log_of_the_labels_share(scores: Tensor, labels: Tensor):
    wanted = -scores.softmax(1)[torch.arange(N), labels].log()
    torch.testing.assert_close(CLASSIFY["cross-entropy"](scores, labels), wanted)


def test_smoothed_is_nine_tenths_of_the_label_and_a_tenth_of_the_mean_of_all_classes(scores: Tensor, labels: Tensor):
    """HD-GCN's release: (1 - 0.1) (-log p_y) + 0.1 mean_k (-log p_k)."""
    surprise = -scores.log_softmax(1)
    wanted = 0.9 * surprise[torch.arange(N), labels] + 0.1 * surprise.mean(1)
    torch.testing.assert_close(CLASSIFY["smoothed"](scores, labels), wanted)


@pytest.mark.parametrize("name", CLASSIFY)
def test_every_loss_is_a_clips_own(name: str, scores: Tensor, labels: Tensor):
    """What a clip's loss is depends on no other clip of the batch, so that processes can share a batch."""
    found = CLASSIFY[name](scores, labels)
    assert found.shape == (N,) and found.dtype == torch.float32
    alone = torch.cat([CLASSIFY[name](scores[[row]], labels[[row]]) for row in range(N)])
    torch.testing.assert_close(alone, found)


@pytest.mark.parametrize("name", CLASSIFY)
def test_the_shares_of_two_processes_sum_to_the_mean_over_the_batch(name: str, scores: Tensor, labels: Tensor):
    config, whole = Config(loss=name), CLASSIFY[name](scores, labels).mean()
    shares = [
        losses(Outputs(scores[part], scores[part]), labels[part], Teachers(), Heads(None, None), config, N).total
        for part in (slice(0, 3), slice(3, N))
    ]
    torch.testing.assert_close(shares[0] + shares[1], whole)


def test_the_default_has_the_gradient_of_torchs_own_mean_bit_for_bit(scores: Tensor, labels: Tensor):
    """The weights of a run with the default loss are those that were trained before losses had names."""
    losses(Outputs(scores, scores), labels, Teachers(), Heads(None, None), Config(), N).total.backward()
    found, scores.grad = scores.grad, None
    (F.cross_entropy(scores, labels, reduction="sum") / N).backward()
    assert found is not None and scores.grad is not None
    assert torch.equal(found, scores.grad)


def test_an_unknown_loss_is_refused_with_the_choices_before_anything_is_written(tmp_path: Path):
    data = people(tmp_path / "pairs")
    with pytest.raises(ValueError, match="loss 'hinge': known are cross-entropy, smoothed"):
        planned(data, replace(TINY, loss="hinge"))
    with pytest.raises(ValueError, match="loss 'hinge'"):
        classify_loss("hinge")


def test_a_run_is_trained_with_its_loss_and_says_so(tmp_path: Path):
    data, one_epoch = people(tmp_path / "pairs"), replace(TINY, epochs=1, milestones=())
    for name in CLASSIFY:
        trained(data, tmp_path / name, replace(one_epoch, loss=name))
    assert not same(weights(tmp_path / "cross-entropy"), weights(tmp_path / "smoothed"))
    assert "loss smoothed (default cross-entropy)" in changed_options(read_run(tmp_path / "smoothed"))
    assert not [said for said in changed_options(read_run(tmp_path / "cross-entropy")) if said.startswith("loss")]


def test_a_run_of_before_losses_had_names_is_one_of_cross_entropy(tmp_path: Path):
    data = people(tmp_path / "pairs")
    trained(data, tmp_path / "run", replace(TINY, epochs=1, milestones=()))
    path = tmp_path / "run" / "run.json"
    found = json.loads(path.read_text())
    del found["config"]["loss"]
    path.write_text(json.dumps(found))
    assert read_run(tmp_path / "run").config.loss == "cross-entropy"
