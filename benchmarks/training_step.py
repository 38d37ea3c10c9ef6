"""A training step and an evaluation, against the original or the plain equations; and how exact they are."""

from __future__ import annotations

from pathlib import Path

import torch

from .training_errors import errors
from .training_networks import ONE, TWO, UCLA, Case, batch_of, evaluating, ours, plain, scores_of, training, unfused
from .training_rows import Row, alternating, faster

TARGETS = {TWO.name: (1.2, 1.3), ONE.name: (1.5, 1.8), UCLA.name: (1.15, 1.1)}  # training, evaluation
SEEDS = 3


def step(reference: Path | None, rounds: int) -> list[Row]:
    rows = [agreement(case, reference) for case in (TWO, UCLA) if reference]
    for case in (TWO, ONE, UCLA):
        rows += times(case, reference, rounds, *TARGETS[case.name])
    return rows + [row for case in (TWO, ONE, UCLA) for row in errors(case, SEEDS)]


def times(case: Case, reference: Path | None, rounds: int, train: float, evaluate: float) -> list[Row]:
    """How many times faster ours is; the two take turns on the same clips with the same weights."""
    theirs = unfused(case, reference)
    network, (x, labels) = ours(case, theirs), batch_of(case)
    scores, mine = scores_of(network, case), as_batched(x)
    trained = alternating(
        [training(theirs, theirs, x, labels, fused=False), training(network, scores, mine, labels, fused=True)], rounds
    )
    evaluated = alternating([evaluating(theirs, theirs, x), evaluating(network, scores, mine)], rounds)
    other = "the original's" if reference else "the plain equations'"
    found = (("training step", trained, train), ("evaluation", evaluated, evaluate))
    return [faster(f"{case.name}: {what}, times {other} speed", seconds, least) for what, seconds, least in found]


def agreement(case: Case, reference: Path) -> Row:
    """Whether the plain equations are the original's: the largest difference of the scores of an evaluation."""
    x, _ = batch_of(case)
    with torch.inference_mode():
        one, other = (network.eval()(x) for network in (plain(case), unfused(case, reference)))
    difference = float((one - other).abs().max() / other.abs().max())
    return Row(f"{case.name}: the plain equations against the original, relative difference", difference, most=1e-5)


def as_batched(x: torch.Tensor) -> torch.Tensor:
    """The same values, lying in memory as our data path makes them."""
    return x.permute(0, 4, 3, 1, 2).contiguous().permute(0, 3, 4, 2, 1)
