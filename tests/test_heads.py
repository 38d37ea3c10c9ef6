"""FAM, FRM and the standardisation before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcl.tests.features import features_of
from mmcl.trainer.colearning.alignment import Alignment, align_loss
from mmcl.trainer.colearning.objective import build_heads
from mmcl.trainer.colearning.refinement import Refinement
from mmcl.trainer.colearning.standardise import Standardise
from mmcl.trainer.config import Config
from mmcl.trainer.data.features import Features
from mmcl.trainer.data.moments import Moments

N, D, K, RGB, TEXT = 8, 6, 4, 5, 3


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def features(values: Tensor, present: Tensor | None = None, column: str = "feature") -> Features:
    return features_of(values.numpy(), None if present is None else present.numpy(), column=column)


def fitted(raw: Tensor) -> Standardise:
    moments = Moments(raw.shape[1])
    moments.add(raw.numpy())
    return Standardise.of(moments.mean, moments.deviation)


def contrast(skeleton: Tensor, rgb: Tensor, temperature: Tensor | float = 0.4, **options: bool) -> Tensor:
    """The alignment loss of a batch in which all clips are present, each of a class of its own."""
    n = len(skeleton)
    there = torch.ones(n, dtype=torch.bool)
    return align_loss(skeleton, rgb, there, torch.arange(n), temperature, count=n, **options)


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
    found = contrast(torch.tensor(g), torch.tensor(c), tau)
    assert found.item() == pytest.approx(naive_align(g, c, tau), rel=1e-10)


def test_align_loss_is_symmetric_blind_to_lengths_and_least_for_pairs_that_agree():
    g, c = torch.randn(2, N, D)
    assert contrast(g, c).item() == pytest.approx(contrast(c, g).item(), rel=1e-6)
    assert contrast(3 * g, c / 7).item() == pytest.approx(contrast(g, c).item(), rel=1e-5)
    assert contrast(g, g) < contrast(g, g.roll(1, 0))


def test_standardise_brings_training_features_to_mean_0_and_deviation_1():
    raw = torch.randn(50, 3) * torch.tensor([1.0, 100.0, 1e-3]) + torch.tensor([0.0, 1e4, -5.0])
    found = fitted(raw)(raw)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("constant", [0.0, 0.1, -30522.0])
def test_a_constant_feature_becomes_zero_also_where_a_new_clip_differs(constant: float):
    raw = torch.randn(20, 2)
    raw[:, 1] = constant
    module = fitted(raw)
    assert (module(raw)[:, 1] == 0).all() and module(raw)[:, 0].any()
    assert (module(torch.full((1, 2), 7.0))[:, 1] == 0).all()


def test_the_fit_survives_saving():
    module, other = fitted(torch.randn(9, 4)), Standardise(4)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(torch.ones(1, 4)), module(torch.ones(1, 4)))


def test_statistics_come_from_clips_that_are_trained_on():
    """Clips of the test side and clips whose features failed leave no trace in them."""
    values, present = torch.randn(10, RGB), torch.arange(10) < 6
    spoilt = values.clone()
    spoilt[6:] = torch.nan
    for found in (values, spoilt):
        heads = build_heads(features(found, present), None, feature_dim=D, classes=K, config=Config())
        assert heads.align is not None and heads.refine is None
        torch.testing.assert_close(heads.align.standardise.mean, values[:6].mean(0))
        assert heads.align.mlp[2].out_features == D


def test_the_gate_starts_as_a_gate_on_the_sample():
    """Rows add up to one, clips differ, and refined scores start as the scores."""
    text = torch.randn(200, TEXT) + 30000
    head = Refinement(fitted(text), K)
    weights = head.weights(text)
    torch.testing.assert_close(weights.sum(1), torch.ones(200))
    assert weights[:, 0].std() > 0.02 and weights.min() > 0.05 and weights.max() < 0.95
    scores = torch.randn(200, K)
    torch.testing.assert_close(head(scores, text), scores)


def test_raw_features_far_from_zero_would_saturate_the_gate():
    """Why they are standardised: token ids as features (the authors' code) leave a constant, deaf gate."""
    ids = torch.stack([torch.full((200,), 30522.0), torch.randint(2000, 4000, (200,)), torch.full((200,), 102.0)], 1)
    raw, standardised = Refinement(Standardise(3), K), Refinement(fitted(ids), K)
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
    head = Refinement(fitted(text), K)
    torch.nn.init.normal_(head.matrices)
    with torch.no_grad():
        g, (pos, neg) = head.weights(text), head.matrices
        for n in range(N):
            wanted = torch.stack([scores[n, k] * (g[n, 0] * pos[k] + g[n, 1] * neg[k]) for k in range(K)])
            torch.testing.assert_close(head(scores, text)[n], wanted)


def test_token_ids_go_in_as_they_are():
    """The released code does not standardise them; that is what the compatibility mode is there to show."""
    ids = torch.tensor([[30522.0, 2748.0, 102.0], [30522.0, 2053.0, 102.0]])
    plain, raw = (
        build_heads(None, features(ids, column=column), feature_dim=D, classes=K, config=Config())
        for column in ("prompt_feature", "answer_ids")
    )
    assert plain.refine is not None and raw.refine is not None
    assert torch.equal(raw.refine.standardise(ids), ids) and plain.refine.standardise(ids).abs().max() == 1


@pytest.mark.parametrize("same_class", [True, False])
def test_clips_of_the_same_class_are_negatives_unless_masked(same_class: bool):
    """A clip's own pair stays in whatever its class; masked ones leave both modalities."""
    g, c = torch.randn(2, 4, D, dtype=torch.float64)
    labels, there = torch.tensor([0, 0, 1, 2]), torch.ones(4, dtype=torch.bool)
    found = align_loss(g, c, there, labels, 0.4, count=4, same_class=same_class)
    a, b = F.normalize(g, dim=1), F.normalize(c, dim=1)
    terms = []
    for x, y in ((a, b), (b, a)):
        for i in range(4):
            others = [k for k in range(4) if k != i and (same_class or labels[k] != labels[i])]
            below = sum(((x[i] @ z[k]) / 0.4).exp() for k in others for z in (x, y))
            positive = (x[i] @ y[i] / 0.4).exp()
            terms.append(-(positive / (positive + below)).log())
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-10)


def test_without_other_classes_there_is_nothing_to_tell_apart():
    g, c = torch.randn(2, 3, D)
    there = torch.ones(3, dtype=torch.bool)
    assert align_loss(g, c, there, torch.zeros(3), count=3, same_class=False).abs() < 1e-6


def alignment(**options: object) -> Alignment:
    config = replace(Config(), **options)  # type: ignore[arg-type]
    head = build_heads(features(torch.randn(9, RGB)), None, feature_dim=D, classes=K, config=config).align
    assert head is not None
    return head


def test_the_skeleton_side_is_projected_only_when_asked():
    """A projection belongs to the heads: the network that is deployed does not know of it."""
    x = torch.randn(3, D)
    plain, projecting = alignment(), alignment(align_project=True)
    assert plain.projection(x) is x
    assert projecting.projection(x).shape == (3, D) and not torch.allclose(projecting.projection(x), x)
    assert {name.split(".")[0] for name, _ in plain.named_parameters()} == {"mlp"}
    assert {name.split(".")[0] for name, _ in projecting.named_parameters()} == {"mlp", "projection"}


def test_a_learned_temperature_starts_where_it_is_told_and_follows_the_loss():
    """Pairs that agree want a sharper contrast, pairs that don't a flatter one."""
    for agree, sign in ((True, 1), (False, -1)):
        head = alignment(temperature_learned=True, temperature=0.3)
        assert isinstance(head.temperature, Tensor) and head.temperature.item() == pytest.approx(0.3)
        x = torch.randn(6, D)
        contrast(x, x if agree else x.roll(1, 0), head.temperature).backward()
        assert head.log_temperature is not None and head.log_temperature.grad is not None
        assert head.log_temperature.grad.sign() == sign
    assert alignment(temperature=0.3).temperature == 0.3


@pytest.mark.parametrize(("log", "wanted"), [(-50.0, 0.01), (50.0, 10.0)])
def test_a_learned_temperature_stays_sane(log: float, wanted: float):
    head = alignment(temperature_learned=True)
    assert head.log_temperature is not None
    head.log_temperature.data.fill_(log)
    assert isinstance(head.temperature, Tensor) and head.temperature.item() == pytest.approx(wanted)


def test_a_learned_temperature_that_starts_outside_is_refused():
    with pytest.raises(ValueError, match=r"temperature = 20\.0: one that is learned starts between 0\.01 and 10"):
        alignment(temperature_learned=True, temperature=20.0)
