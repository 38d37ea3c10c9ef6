"""Weights of an ensemble found on clips that no weight of a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from ...cache.skeletons import Skeletons
from ..data.samples import split_rows
from ..data.skeleton import body_of, pack
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run
from .evaluate import scores_of
from .scores import Scores, aligned
from .scoring import score

if TYPE_CHECKING:
    from .entries import Entry, Member

# of a weight times its scores' deviation: clips that can all be told apart would have it grow for ever
STEEPEST = 100.0
BLOCK = 256  # clips that are summed at once


def fitted_weights(values: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """The weights, none negative and 1 in sum, for which the softmax of the weighted sum fits the labels best.

    `values` are a member's scores [n, K] each. The cross-entropy is convex in the weights; L-BFGS-B starts from equal
    ones, and always ends alike. ValueError where no member is worth a weight.
    """
    scale = np.array([one.std() or 1.0 for one in values])
    stacked = np.stack(values)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.0, np.zeros(len(weights))
        for at in range(0, len(labels), BLOCK):
            found = _loss(stacked[:, at : at + BLOCK], labels[at : at + BLOCK], weights / scale)
            total, slope = total + found[0], slope + found[1]
        return total / len(labels), slope / scale / len(labels)

    start = np.full(len(values), 1 / len(values))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, STEEPEST)] * len(values)).x / scale
    if not found.any():
        raise ValueError("--ensemble: no member's scores fit the labels better than none; say fixed or equal")
    return tuple((found / found.sum()).tolist())


def _loss(values: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The cross-entropy of the weighted sum of scores [members, n, K], summed over clips, and its slopes [members].

    In double precision, of so few clips that they stay in the processor's cache.
    """
    members, rows = values.astype(np.float64).reshape(len(values), -1), np.arange(len(labels))
    logits = (weights @ members).reshape(len(labels), -1)
    logits -= logits.max(1, keepdims=True)
    missed = np.exp(logits)
    total = missed.sum(1)
    loss = float((np.log(total) - logits[rows, labels]).sum())
    missed /= total[:, None]
    missed[rows, labels] -= 1
    return loss, members @ missed.ravel()


def held_out_scores(
    members: Sequence[Entry], skeletons_of: Callable[[Run], Skeletons], progress: Callable[[int, int], None]
) -> tuple[list[Scores], str]:
    """Each member's scores of the training clips that it held out, and whose these are, such as `subjects 3, 7`.

    They are computed from skeletons with the weights that the run kept. ValueError where a member is no run, held
    nothing out, or not the same clips as the first.
    """
    refuse_none_held_out(members)
    runs = [entry.run for entry in members if entry.run]
    found = list[Scores]()
    for number, (entry, run) in enumerate(zip(members, runs, strict=True), 1):
        scores = _held_out(entry, run, skeletons_of(run))
        try:
            found.append(aligned(scores, found[0]) if found else scores)
        except ValueError as error:
            raise ValueError(f"{entry.title}: held out other clips than {members[0].title}: {error}") from error
        progress(number, len(members))
    return found, f"subjects {', '.join(map(str, runs[0].held_out_subjects))}"


def refuse_none_held_out(members: Sequence[Member]) -> None:
    """ValueError for the first member that is no run, or held no subjects out."""
    for member in members:
        if member.run is None or not member.run.config.validation:
            what = "no run" if member.run is None else "trained on all subjects"
            mend = "train its members with --validation, or say fixed or equal"
            raise ValueError(f"--ensemble validation: {member.title} is {what}: {mend}")


def _held_out(entry: Entry, run: Run, skeletons: Skeletons) -> Scores:
    if skeletons.digest != run.skeletons:
        raise ValueError(f"--ensemble validation: {entry.title}: the data are not those it was trained on")
    rows = split_rows(skeletons, run.config).held_out
    model, device = load_model(entry.path, run), find_device()
    body = body_of(run.layout, run.slots, run.body_rule)
    values = score(model.to(device), pack(skeletons).to(device), rows, body=body, config=run.config).numpy()
    return scores_of(run, skeletons, rows, values)
