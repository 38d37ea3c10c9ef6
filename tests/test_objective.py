"""The loss that heads and classifier add up to: of whole batches, of batches with gaps, of a batch's shares."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl.tests.features import features_of
from mmcl.trainer.colearning.objective import Heads, Losses, Teachers, build_heads, losses, teachers_of
from mmcl.trainer.config import Config
from mmcl.trainer.model import Outputs

N, D, K, RGB, TEXT = 8, 6, 4, 5, 3
ALL = torch.ones(N, dtype=torch.bool)
LABELS = torch.arange(N) % K
CONFIG = Config()
CASES = ("whole", "gap", "classes")

# One of two processes: its rows of each batch, and its shares of the losses and gradients.
SHARE = """
import sys, torch
from mmcl.tests.test_objective import CASES, batch_of_five, gradients
from mmcl.trainer.colearning.objective import Teachers, losses
from mmcl.trainer.loop.device import process_device
from mmcl.trainer.model import Outputs
from mmcl.trainer.processes import share
torch.set_num_threads(1)
process_device("cpu")
mine, shares = share().rows(5), {}
for case in CASES:
    outputs, labels, teachers, heads, config = batch_of_five(case)
    part = Outputs(*(tensor.detach()[mine].requires_grad_() for tensor in outputs))
    found = losses(part, labels[mine], Teachers(*(tensor[mine] for tensor in teachers)), heads, config, 5)
    found.total.backward()
    shares[case] = torch.stack([loss.detach() for loss in found]), gradients(part, heads)
torch.save(shares, f"{sys.argv[1]}/{share().rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def made(config: Config = CONFIG) -> tuple[Heads, Tensor, Tensor]:
    """Heads whose matrices differ, and their features."""
    rgb, text = torch.randn(N, RGB), torch.randn(N, TEXT)
    given = (features_of(rgb.numpy()), features_of(text.numpy()))
    heads = build_heads(*given, feature_dim=D, classes=K, config=config)
    assert heads.align is not None and heads.refine is not None
    torch.nn.init.normal_(heads.refine.matrices)
    return heads, rgb, text


def outputs() -> Outputs:
    return Outputs(torch.randn(N, D).requires_grad_(), torch.randn(N, K).requires_grad_())


def gradients(out: Outputs, heads: Heads) -> dict[str, Tensor | None]:
    named = {**dict(heads.named_parameters()), "feature": out.feature, "scores": out.scores}
    return {name: tensor.grad for name, tensor in named.items()}


def plain(out: Outputs, labels: Tensor, teachers: Teachers, heads: Heads, config: Config) -> Losses:
    """The equations with the rows that are there picked out, one batch in one process."""
    rgb, there, text, read = teachers
    assert heads.align is not None and heads.refine is not None
    assert rgb is not None and there is not None and text is not None and read is not None
    classify = F.cross_entropy(out.scores, labels)
    tau = torch.as_tensor(heads.align.temperature)
    g = F.normalize(heads.align.projection(out.feature[there]), dim=1)
    c = F.normalize(heads.align(rgb[there]), dim=1)
    classes, terms = labels[there], list[Tensor]()
    for a, b in ((g, c), (c, g)):
        for i in range(len(a)):
            counts = (classes != classes[i]) | config.align_same_class
            counts[i] = False
            positive = (a[i] @ b[i] / tau).exp()
            negatives = (a[i] @ torch.cat([a[counts], b[counts]]).T / tau).exp().sum()
            terms.append(-(positive / (positive + negatives)).log())
    align = torch.stack(terms).mean() if terms else torch.zeros(())
    refine = (
        F.cross_entropy(heads.refine(out.scores[read], text[read]), labels[read]) if read.any() else torch.zeros(())
    )
    return Losses(classify + config.align_weight * align + config.refine_weight * refine, classify, align, refine)


@pytest.mark.parametrize(
    ("there", "read"),
    [(ALL, ALL), (torch.arange(N) != 2, torch.arange(N) > 3), (torch.arange(N) < 2, torch.arange(N) == 5)],
    ids=["all", "some", "few"],
)
@pytest.mark.parametrize(
    "options",
    [{}, {"align_project": True, "temperature_learned": True, "temperature": 0.2}, {"align_same_class": False}],
    ids=["paper", "learned", "classes"],
)
def test_losses_and_gradients_are_those_of_the_equations(there: Tensor, read: Tensor, options: dict):
    """A clip without a feature counts in classification only, whatever stands in its row, even NaN."""
    config = Config(align_weight=0.3, refine_weight=0.7, **options)
    heads, rgb, text = made(config)
    out = outputs()
    rgb[~there], text[~read] = torch.nan, torch.nan
    teachers = Teachers(rgb, there, text, read)
    found = losses(out, LABELS, teachers, heads, config, N)
    found.total.backward()
    measured = gradients(out, heads)
    for tensor in (*heads.parameters(), *out):
        tensor.grad = None
    wanted = plain(out, LABELS, teachers, heads, config)
    wanted.total.backward()
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted))
    torch.testing.assert_close(measured, gradients(out, heads), atol=1e-6, rtol=1e-4)


def test_a_clip_without_features_gets_no_gradient_of_theirs():
    heads, rgb, text = made()
    out, there, read = outputs(), torch.arange(N) != 2, torch.arange(N) > 3
    found = losses(out, LABELS, Teachers(rgb, there, text, read), heads, CONFIG, N)
    (found.align + found.refine).backward()
    assert out.feature.grad is not None and out.scores.grad is not None
    assert (out.feature.grad[2] == 0).all() and out.feature.grad[there].abs().sum(1).min() > 0
    assert (out.scores.grad[:4] == 0).all() and out.scores.grad[read].abs().sum(1).min() > 0


@pytest.mark.parametrize("left", [0, 1])
def test_a_batch_with_too_few_features_trains_on_what_is_left(left: int):
    """One clip has no negatives, none has nothing: L_c is 0, and the heads' gradients are 0 and not absent."""
    heads, rgb, text = made()
    some, out = torch.arange(N) < left, outputs()
    found = losses(out, LABELS, Teachers(rgb, some, text, some), heads, CONFIG, N)
    assert found.align == 0 and (found.refine == 0) == (left == 0) and found.total.isfinite()
    found.total.backward()
    assert heads.align is not None and heads.refine is not None
    assert all(p.grad is not None and (p.grad == 0).all() for p in heads.align.parameters())
    assert all(p.grad is not None and (p.grad != 0).any() == bool(left) for p in heads.refine.gate.parameters())


def test_a_first_batch_without_features_leaves_the_optimizer_in_step():
    """Fused SGD wants a gradient of every weight from the first step on."""
    heads, rgb, text = made()
    network = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD([*network.parameters(), *heads.parameters()], lr=0.1, momentum=0.9, fused=True)
    for there in (~ALL, ALL):
        found = losses(outputs(), LABELS, Teachers(rgb, there, text, there), heads, CONFIG, N)
        optimizer.zero_grad()
        (found.total + network(torch.ones(1, 4)).sum()).backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in heads.parameters())


def test_a_batch_of_one_clip_has_no_contrast():
    heads, rgb, text = made()
    one = ALL[:1]
    out = Outputs(torch.randn(1, D).requires_grad_(), torch.randn(1, K).requires_grad_())
    found = losses(out, LABELS[:1], Teachers(rgb[:1], one, text[:1], one), heads, CONFIG, 1)
    assert found.align == 0 and found.refine > 0
    found.total.backward()
    assert out.feature.grad is not None and (out.feature.grad == 0).all()


def test_without_heads_the_loss_is_classification():
    found = losses(outputs(), LABELS, Teachers(), Heads(None, None), CONFIG, N)
    assert found.total == found.classify and found.align == 0 and found.refine == 0


def test_losses_are_float32_whatever_autocast_is_on():
    heads, rgb, text = made()
    out, teachers = outputs(), Teachers(rgb, ALL, text, ALL)
    rounded = Outputs(*(tensor.detach().bfloat16() for tensor in out))
    exact = Outputs(*(tensor.float() for tensor in rounded))
    wanted = losses(exact, LABELS, teachers, heads, CONFIG, N)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(rounded, LABELS, teachers, heads, CONFIG, N)
    assert all(loss.dtype == torch.float32 for loss in found)
    assert torch.equal(torch.stack(found), torch.stack(wanted))


def test_no_number_is_asked_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """Meta tensors have none to give: whatever made a GPU's host wait would raise here."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta tensors
    config = Config(align_project=True, temperature_learned=True, align_same_class=False)
    heads, rgb, text = made(config)
    teachers = Teachers(rgb, torch.arange(N) > 1, text, torch.arange(N) > 2).to(torch.device("meta"))
    out = Outputs(*(tensor.detach().to("meta").requires_grad_() for tensor in outputs()))
    found = losses(out, LABELS.to("meta"), teachers, heads.to("meta"), config, N)
    found.total.backward()
    assert found.total.device.type == "meta" and out.feature.grad is not None


def batch_of_five(case: str) -> tuple[Outputs, Tensor, Teachers, Heads, Config]:
    """A batch that two processes share unevenly; "gap": one of them has no feature at all."""
    torch.manual_seed(3)
    config = replace(CONFIG, align_project=True, temperature_learned=True, align_same_class=case != "classes")
    heads, rgb, text = made(config)
    there, read = torch.tensor([True, False, True, True, True]), torch.tensor([False, True, True, True, False])
    if case == "gap":
        there[:2] = read[:2] = False
    out = Outputs(*(tensor.detach()[:5].requires_grad_() for tensor in outputs()))
    return out, torch.tensor([0, 1, 0, 3, 1]), Teachers(rgb[:5], there, text[:5], read), heads, config


def test_the_shares_of_two_processes_add_up_to_the_whole(tmp_path: Path):
    """Losses and gradients, with negatives from the other process; also where one process has no feature."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, str(tmp_path)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for case in CASES:
        out, labels, teachers, heads, config = batch_of_five(case)
        wanted = losses(out, labels, teachers, heads, config, 5)
        wanted.total.backward()
        (some, left), (more, right) = first[case], second[case]
        torch.testing.assert_close(some + more, torch.stack(wanted).detach())
        for name, whole in gradients(out, heads).items():
            apart = name in ("feature", "scores")
            summed = torch.cat([left[name], right[name]]) if apart else left[name] + right[name]
            assert torch.allclose(summed, whole, atol=1e-6, rtol=1e-4), (case, name)


def test_a_batch_takes_its_own_clips_rows():
    values = np.random.default_rng(0).normal(size=(20, RGB)).astype(np.float32)
    rgb = features_of(values, np.arange(20) % 3 > 0)
    rows = np.array([4, 3, 19])
    found = teachers_of(rgb, None, rows)
    assert found.rgb is not None and found.rgb_present is not None
    assert found.rgb.tolist() == [values[4].tolist(), [0] * RGB, values[19].tolist()]
    assert found.rgb_present.tolist() == [True, False, True]
    assert found.text is None and found.text_present is None
