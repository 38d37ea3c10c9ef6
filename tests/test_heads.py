"""FAM, FRM, the standardisation before them, and the loss they add up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl.cache.recipe import Recipe
from mmcl.trainer.colearning.alignment import Alignment, align_loss
from mmcl.trainer.colearning.objective import Heads, Teachers, build_heads, losses, teachers_of
from mmcl.trainer.colearning.refinement import Refinement
from mmcl.trainer.colearning.standardise import Standardise
from mmcl.trainer.config import Config
from mmcl.trainer.data.samples import Features
from mmcl.trainer.model import Outputs

N, D, K, RGB, TEXT = 8, 6, 4, 5, 3


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def features(kind: str, values: Tensor, present: Tensor) -> Features:
    return Features(Recipe(kind, "acted", {"model": "m"}), values, present, ())


def naive_align(g: np.ndarray, c: np.ndarray, tau: float) -> float:
    """The equation as method.md prints it, one term after the other."""

    def s(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    def one(a: np.ndarray, b: np.ndarray, i: int) -> float:
        below = sum(np.exp(s(a[i], b[k]) / tau) for k in range(len(a)))
        below += sum(np.exp(s(a[i], a[k]) / tau) for k in range(len(a)) if k != i)
        return -np.log(np.exp(s(a[i], b[i]) / tau) / below)

    return float(np.mean([(one(g, c, i) + one(c, g, i)) / 2 for i in range(len(g))]))


@pytest.mark.parametrize("tau", [0.1, 0.4, 1.0])
def test_align_loss_is_the_papers_equation(tau: float):
    g, c = np.random.default_rng(0).normal(size=(2, N, D))
    found = align_loss(torch.tensor(g), torch.tensor(c), tau)
    assert found.item() == pytest.approx(naive_align(g, c, tau), rel=1e-10)


def test_align_loss_is_symmetric_blind_to_lengths_and_least_for_pairs_that_agree():
    g, c = torch.randn(2, N, D)
    assert align_loss(g, c).item() == pytest.approx(align_loss(c, g).item(), rel=1e-6)
    assert align_loss(3 * g, c / 7).item() == pytest.approx(align_loss(g, c).item(), rel=1e-5)
    assert align_loss(g, g) < align_loss(g, g.roll(1, 0))


def test_standardise_brings_training_features_to_mean_0_and_deviation_1():
    raw = torch.randn(50, 3) * torch.tensor([1.0, 100.0, 1e-3]) + torch.tensor([0.0, 1e4, -5.0])
    found = Standardise.of(raw)(raw)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, -30522.0])
def test_a_constant_feature_becomes_zero_also_where_a_new_clip_differs(constant: float):
    raw = torch.randn(20, 2)
    raw[:, 1] = constant
    module = Standardise.of(raw)
    assert (module(raw)[:, 1] == 0).all() and module(raw)[:, 0].any()
    assert (module(torch.full((1, 2), 7.0))[:, 1] == 0).all()


def test_the_fit_survives_saving():
    module, other = Standardise.of(torch.randn(9, 4)), Standardise(4)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(torch.ones(1, 4)), module(torch.ones(1, 4)))


def test_statistics_come_from_clips_that_are_trained_on():
    """Clips of the test side and clips whose features failed leave no trace in them."""
    values, present = torch.randn(10, RGB), torch.arange(10) < 6
    spoilt = values.clone()
    spoilt[6:] = torch.nan
    clean, other = (build_heads(features("rgb", v, present), None, feature_dim=D, classes=K) for v in (values, spoilt))
    for heads in (clean, other):
        assert heads.align is not None and heads.refine is None
        torch.testing.assert_close(heads.align.standardise.mean, values[:6].mean(0))
    assert clean.align is not None and clean.align.mlp[2].out_features == D


def test_the_gate_starts_as_a_gate_on_the_sample():
    """Rows add up to one, clips differ, and refined scores start as the scores."""
    text = torch.randn(200, TEXT) + 30000
    head = Refinement(Standardise.of(text), K)
    weights = head.weights(text)
    torch.testing.assert_close(weights.sum(1), torch.ones(200))
    assert weights[:, 0].std() > 0.02 and weights.min() > 0.05 and weights.max() < 0.95
    scores = torch.randn(200, K)
    torch.testing.assert_close(head(scores, text), scores)


def test_raw_features_far_from_zero_would_saturate_the_gate():
    """Why they are standardised: token ids as features (the authors' code) leave a constant, deaf gate."""
    ids = torch.stack([torch.full((200,), 30522.0), torch.randint(2000, 4000, (200,)), torch.full((200,), 102.0)], 1)
    raw, standardised = Refinement(Standardise(3), K), Refinement(Standardise.of(ids), K)
    standardised.gate.load_state_dict(raw.gate.state_dict())
    assert raw.weights(ids).max(1).values.min() > 0.999 and raw.weights(ids).std(0).max() < 1e-3
    assert standardised.weights(ids).max() < 0.95 and standardised.weights(ids).std(0).max() > 0.01
    assert gate_gradient(standardised, ids) > 1e4 * gate_gradient(raw, ids)


def gate_gradient(head: Refinement, text: Tensor) -> float:
    """The largest gradient in the gate, once its two matrices differ."""
    torch.manual_seed(1)
    torch.nn.init.normal_(head.matrices)
    F.cross_entropy(head(torch.randn(len(text), K), text), torch.arange(len(text)) % K).backward()
    return max(float(p.grad.abs().max()) for p in head.gate.parameters() if p.grad is not None) + 1e-12


def test_a_refined_score_is_the_score_times_the_gated_matrices():
    text, scores = torch.randn(N, TEXT), torch.randn(N, K)
    head = Refinement(Standardise.of(text), K)
    torch.nn.init.normal_(head.matrices)
    with torch.no_grad():
        g, (pos, neg) = head.weights(text), head.matrices
        for n in range(N):
            wanted = torch.stack([scores[n, k] * (g[n, 0] * pos[k] + g[n, 1] * neg[k]) for k in range(K)])
            torch.testing.assert_close(head(scores, text)[n], wanted)


def head_pair() -> tuple[Heads, Tensor, Tensor]:
    rgb, text = torch.randn(N, RGB), torch.randn(N, TEXT)
    present = torch.ones(N, dtype=torch.bool)
    heads = build_heads(features("rgb", rgb, present), features("text", text, present), feature_dim=D, classes=K)
    torch.nn.init.normal_(heads.refine.matrices)
    return heads, rgb, text


def outputs() -> Outputs:
    return Outputs(torch.randn(N, D).requires_grad_(), torch.randn(N, K).requires_grad_())


def test_the_loss_is_the_weighted_sum_of_its_terms():
    heads, rgb, text = head_pair()
    out, labels, present = outputs(), torch.arange(N) % K, torch.ones(N, dtype=torch.bool)
    config = Config(align_weight=0.3, refine_weight=0.7, temperature=0.2)
    found = losses(out, labels, Teachers(rgb, present, text, present), heads, config)
    assert isinstance(heads.align, Alignment) and heads.refine is not None
    assert found.classify.item() == pytest.approx(F.cross_entropy(out.scores, labels).item())
    assert found.align.item() == pytest.approx(align_loss(out.feature, heads.align(rgb), 0.2).item())
    assert found.refine.item() == pytest.approx(F.cross_entropy(heads.refine(out.scores, text), labels).item())
    assert found.total.item() == pytest.approx((found.classify + 0.3 * found.align + 0.7 * found.refine).item())


def test_a_clip_without_features_counts_in_classification_only():
    """It is no positive and no negative of L_c and not in L_R: what stands in its row, even NaN, changes nothing."""
    heads, rgb, text = head_pair()
    out, labels = outputs(), torch.arange(N) % K
    there, read = torch.arange(N) != 2, torch.arange(N) > 3
    rgb[2], text[:4] = torch.nan, torch.nan
    found = losses(out, labels, Teachers(rgb, there, text, read), heads, Config())
    assert found.align.item() == pytest.approx(align_loss(out.feature[there], heads.align(rgb[there])).item())
    refined = heads.refine(out.scores[read], text[read])
    assert found.refine.item() == pytest.approx(F.cross_entropy(refined, labels[read]).item())
    (found.align + found.refine).backward(retain_graph=True)
    assert out.feature.grad is not None and out.scores.grad is not None
    assert (out.feature.grad[2] == 0).all() and out.feature.grad[there].abs().sum(1).min() > 0
    assert (out.scores.grad[:4] == 0).all() and out.scores.grad[read].abs().sum(1).min() > 0
    found.total.backward()
    assert out.scores.grad.isfinite().all() and out.scores.grad.abs().sum(1).min() > 0
    assert all(p.grad.isfinite().all() for p in heads.parameters() if p.grad is not None)


@pytest.mark.parametrize("left", [0, 1])
def test_a_batch_with_too_few_features_trains_on_what_is_left(left: int):
    """One clip has no negatives, none has nothing: L_c is 0, and the step goes on."""
    heads, rgb, text = head_pair()
    some = torch.arange(N) < left
    found = losses(outputs(), torch.zeros(N).long(), Teachers(rgb, some, text, some), heads, Config())
    assert found.align == 0 and (found.refine == 0) == (left == 0) and found.total.isfinite()
    found.total.backward()


def test_a_first_batch_without_features_leaves_the_optimizer_in_step():
    """Fused SGD wants a gradient of every weight from the first step on."""
    heads, rgb, text = head_pair()
    network = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD([*network.parameters(), *heads.parameters()], lr=0.1, momentum=0.9, fused=True)
    for there in (torch.zeros(N).bool(), torch.ones(N).bool()):
        found = losses(outputs(), torch.zeros(N).long(), Teachers(rgb, there, text, there), heads, Config())
        optimizer.zero_grad()
        (found.total + network(torch.ones(1, 4)).sum()).backward()
        optimizer.step()
    assert all(p.isfinite().all() for p in heads.parameters())


def test_without_heads_the_loss_is_classification():
    found = losses(outputs(), torch.zeros(N).long(), Teachers(None, None, None, None), Heads(None, None), Config())
    assert found.total == found.classify and found.align == 0 and found.refine == 0


def test_a_batch_takes_its_own_clips_rows():
    rgb = features("rgb", torch.randn(20, RGB), torch.arange(20) % 3 > 0)
    rows = torch.tensor([4, 3, 19])
    found = teachers_of(rgb, None, rows)
    assert torch.equal(found.rgb, rgb.values[rows]) and found.rgb_present.tolist() == [True, False, True]
    assert found.text is None and found.text_present is None
