"""Weights of an ensemble found on clips that no weight of a network was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from ...cache.skeletons import Skeletons
from ..data.samples import split_rows
from ..data.skeleton import body_of, pack
from ..loop.checkpoint import load_model
from ..loop.device import find_device
from ..run import Run
from .scores import Scores, aligned
from .scoring import score

if TYPE_CHECKING:
    from .entries import Entry, Member

STEEPEST = (
    100.0  # of a weight times its scores' deviation: clips that can all be told apart would have it grow for ever
)


def fitted_weights(values: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """The weights, none negative and 1 in sum, for which the softmax of the weighted sum fits the labels best.

    `values` are a member's scores [n, K] each. The cross-entropy is convex in the weights; L-BFGS-B starts from equal
    ones, and always ends alike. ValueError where no member is worth a weight.
    """
    scale = np.array([one.std() or 1.0 for one in values])
    stacked = np.stack(values).astype(np.float64) / scale[:, None, None]
    rows = np.arange(len(labels))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logs = log_softmax(np.tensordot(weights, stacked, 1), axis=1)
        missed = np.exp(logs)
        missed[rows, labels] -= 1
        return -logs[rows, labels].mean(), (stacked * missed).sum(axis=(1, 2)) / len(labels)

    start = np.full(len(values), 1 / len(values))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, STEEPEST)] * len(values)).x / scale
    if not found.any():
        raise ValueError("--ensemble: no member's scores fit the labels better than none; say fixed or equal")
    return tuple((found / found.sum()).tolist())


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
    labels = skeletons.split_labels(run.config.split)[rows]
    return Scores(tuple(skeletons.names[row] for row in rows), values, labels, run.classes)
