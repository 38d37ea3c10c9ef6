"""Ensembles against sums worked out by hand; weights fitted on held-out clips; what is labelled, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from mmcl.tests.scored import entry_of, scores_of
from mmcl.trainer.config import STREAMS
from mmcl.trainer.testing.ensemble import ON_TEST, Ensemble, ensembles_of, refuse_choice
from mmcl.trainer.testing.entries import Entry
from mmcl.trainer.testing.fitting import fitted_weights
from mmcl.trainer.testing.scores import About, Scores


def nobody(members: Sequence[Entry]) -> tuple[list[Scores], str]:
    raise AssertionError("no held-out clips are asked for")


def one(entries: Sequence[Entry], asked: str) -> Ensemble:
    [found] = ensembles_of(entries, asked, nobody)
    return found


def summed(entries: Sequence[Entry], weights: Sequence[float]) -> np.ndarray:
    """The sum clip by clip and class by class."""
    total = np.zeros((40, 7))
    for row, label in np.ndindex(40, 7):
        parts = zip(weights, entries, strict=True)
        total[row, label] = sum(weight * float(entry.scores.values[row, label]) for weight, entry in parts)
    return total


FOUR = [entry_of(stream) for stream in STREAMS]
PAIR = [entry_of(stream, backbone="hdgcn") for stream in ("joint", "bone")]


@pytest.mark.parametrize(
    ("entries", "asked", "weights", "chosen"),
    [
        (FOUR, "fixed", (0.6, 0.6, 0.4, 0.4), "fixed (CTR-GCN's .6/.6/.4/.4 by stream)"),
        (FOUR[::-1], "fixed", (0.4, 0.4, 0.6, 0.6), "fixed (CTR-GCN's .6/.6/.4/.4 by stream)"),
        ([*FOUR, *PAIR], "fixed", (0.6, 0.6, 0.4, 0.4, 0.6, 0.6), "fixed (CTR-GCN's .6/.6/.4/.4 by stream)"),
        (FOUR, "equal", (1, 1, 1, 1), "equal"),
        (FOUR, "2,2,1,0", (2, 2, 1, 0), "given on the command line"),
    ],
)
def test_an_ensemble_is_the_weighted_sum_of_the_scores_as_they_are(
    entries: list[Entry], asked: str, weights: tuple[float, ...], chosen: str
):
    found = one(entries, asked)
    np.testing.assert_allclose(found.scores.values, summed(entries, weights), rtol=1e-5, atol=1e-5)
    assert found.weights == weights and found.chosen == chosen
    assert found.members == tuple(entry.title for entry in entries)
    assert found.single == tuple(entry.metrics.top1 for entry in entries)
    hits = found.scores.values.argmax(1) == entries[0].scores.labels
    assert found.metrics.top1 == pytest.approx(hits.mean())
    assert found.versus_first.difference == pytest.approx(hits.mean() - entries[0].metrics.top1)


def test_every_output_of_an_ensemble_can_say_how_weights_and_epochs_were_chosen():
    chosen = replace(FOUR[1], about=FOUR[1].about._replace(selection="best epoch CHOSEN ON THE TEST SET"))
    found = one([FOUR[0], chosen], "equal")
    assert found.selection == "weights equal; last epoch; best epoch CHOSEN ON THE TEST SET"
    assert found.about == About(found.selection, "made-up", "xsub", "ctrgcn", "ensemble", 1)


def test_several_seeds_are_an_ensemble_each():
    entries = [entry_of(stream, seed) for seed in (1, 2, 3) for stream in ("joint", "bone")]
    found = ensembles_of(entries, "3,1", nobody)
    assert [ensemble.seed for ensemble in found] == [1, 2, 3]
    assert [ensemble.title for ensemble in found] == [f"ensemble of 2, seed {seed}" for seed in (1, 2, 3)]
    for number, ensemble in enumerate(found):
        own = entries[2 * number : 2 * number + 2]
        np.testing.assert_allclose(ensemble.scores.values, summed(own, (3, 1)), rtol=1e-5, atol=1e-5)


def test_weights_by_place_are_those_of_the_first_seeds_networks_in_every_seed():
    """A weight stays with its stream, whatever the order of a later seed's entries."""
    entries = [entry_of("joint", 1), entry_of("bone", 1), entry_of("bone", 2), entry_of("joint", 2)]
    for ensemble in ensembles_of(entries, "3,1", nobody):
        joint, bone = (entry_of(stream, ensemble.seed) for stream in ("joint", "bone"))
        assert ensemble.members == (joint.title, bone.title) and ensemble.weights == (3, 1)
        np.testing.assert_allclose(ensemble.scores.values, summed([joint, bone], (3, 1)), rtol=1e-5, atol=1e-5)


def test_streams_of_different_seeds_that_are_each_there_once_are_one_ensemble():
    found = one([entry_of("joint", 1), entry_of("bone", 2)], "fixed")
    assert found.seed is None and len(found.members) == 2


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (
            [entry_of("joint", 1), entry_of("bone", 1), entry_of("joint", 2)],
            r"score files, seed 2: ctrgcn joint; the first: ctrgcn bone \+ ctrgcn joint; wanted each once in every",
        ),
        (
            [entry_of("joint", 1), entry_of("joint", 1)],
            "ctrgcn joint is there more than once .*; leave one out",
        ),
        ([entry_of("joint", 1), entry_of("joint", 2)], "every seed has ctrgcn joint alone; give several streams"),
    ],
)
def test_seeds_that_do_not_hold_the_same_networks_once_are_refused(entries: list[Entry], wanted: str):
    with pytest.raises(ValueError, match=wanted):
        ensembles_of(entries, "equal", nobody)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("0.6,0.6,0.4", r"3 weights for 4 members \(ctrgcn/joint/seed1, ctrgcn/bone/seed1, "),
        ("0.6,0.6,-0.4,0.4", "weights are 0 or more, and one at least is more"),
        ("0,0,0,0", "weights are 0 or more, and one at least is more"),
        ("nan,1,1,1", "weights are 0 or more"),
        ("inf,1,1,1", "weights are 0 or more"),
        ("best", "wanted fixed, equal, validation, or a weight a member such as"),
    ],
)
def test_weights_that_are_none_are_refused(asked: str, wanted: str):
    with pytest.raises(ValueError, match=f"--ensemble {asked}: {wanted}"):
        ensembles_of(FOUR, asked, nobody)


def test_one_entry_is_no_ensemble_and_words_that_mean_nothing_are_refused_at_once():
    with pytest.raises(ValueError, match="an ensemble of one entry is none; give two or more"):
        refuse_choice("fixed", 1)
    with pytest.raises(ValueError, match="--ensemble best: wanted fixed"):
        refuse_choice("best", 4)
    refuse_choice(ON_TEST, 2)
    refuse_choice("1,2", 2)


def test_fixed_weights_of_a_file_that_names_no_stream_are_refused():
    strange = replace(FOUR[0], title="theirs.pkl", about=About())
    with pytest.raises(ValueError, match=r"theirs\.pkl: its file names no stream; .*--ensemble equal"):
        ensembles_of([FOUR[1], strange], "fixed", nobody)
    assert one([FOUR[1], strange], "equal").weights == (1, 1)


def test_fitted_weights_are_the_best_of_all_on_a_grid():
    """The cross-entropy of the softmax of the sum, against every pair of weights nearby and on a wide grid."""
    good, bad = scores_of(1, skill=2.0), scores_of(2, skill=0.5)
    labels = good.labels

    def loss(first: float, second: float) -> float:
        logs = log_softmax(first * good.values + second * bad.values, axis=1)
        return -float(logs[np.arange(40), labels].mean())

    grid = np.linspace(0, 3, 61)
    best = min((loss(first, second), first, second) for first in grid for second in grid)
    found = fitted_weights([good.values, bad.values], labels)
    assert sum(found) == pytest.approx(1) and min(found) >= 0
    assert found[1] / found[0] == pytest.approx(best[2] / best[1], abs=0.05)


def test_fitting_is_of_all_clips_however_many_are_summed_at_once(monkeypatch: pytest.MonkeyPatch):
    values, labels = [scores_of(seed, skill=seed).values for seed in (1, 2, 3)], scores_of().labels
    whole = fitted_weights(values, labels)
    monkeypatch.setattr("mmcl.trainer.testing.fitting.BLOCK", 7)  # the last block is smaller
    assert fitted_weights(values, labels) == pytest.approx(whole, rel=1e-6)
    assert fitted_weights([one[:35] for one in values], labels[:35]) != pytest.approx(whole, rel=1e-3)


def test_fitting_leaves_out_what_says_nothing_and_what_is_wrong():
    good = scores_of(1, skill=1.5)
    weights = fitted_weights([good.values, -good.values, np.zeros_like(good.values)], good.labels)
    assert weights[0] == pytest.approx(1, abs=0.35) and weights[1] == 0
    with pytest.raises(ValueError, match="no member's scores fit the labels better than none"):
        fitted_weights([-good.values, -2 * good.values], good.labels)


def test_fitting_ends_where_every_clip_is_told_apart_and_whatever_the_scores_scale():
    sure = np.eye(7, dtype=np.float32)[np.arange(40) % 6]
    weights = fitted_weights([sure, 1000 * sure], np.arange(40) % 6)
    assert weights[0] / weights[1] == pytest.approx(1000, rel=1e-3)


def test_weights_are_fitted_on_held_out_clips_and_never_on_those_of_the_test():
    """What is fitted are the held-out scores; the test's labels may be anything."""
    held = [scores_of(5, skill=3), scores_of(6, skill=0.2)]
    asked: list[list[str]] = []

    def held_out(members: Sequence[Entry]) -> tuple[list[Scores], str]:
        asked.append([entry.title for entry in members])
        return held, "subjects 3, 7"

    [found] = ensembles_of(FOUR[:2], "validation", held_out)
    assert asked == [[entry.title for entry in FOUR[:2]]]
    assert found.weights == fitted_weights([one.values for one in held], held[0].labels)
    assert found.chosen == "fitted on held-out subjects 3, 7 of the training split"
    assert found.selection.startswith("weights fitted on held-out subjects 3, 7 of the training split; ")


def test_weights_fitted_on_the_test_set_say_so_and_fit_the_test_clips():
    found = one(FOUR[:2], ON_TEST)
    assert found.chosen == "FITTED ON THE TEST SET"
    assert found.selection == "weights FITTED ON THE TEST SET; last epoch"
    assert found.weights == fitted_weights([entry.scores.values for entry in FOUR[:2]], FOUR[0].scores.labels)
