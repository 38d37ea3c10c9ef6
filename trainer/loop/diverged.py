"""What is said of a loss that is NaN or Inf: where, which clips, what is kept, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cache.words import few
from ..processes import everyones
from .checkpoint import State
from .reports import Report

NAMES = 8  # clips named
SMALLER = "train with a smaller lr, or with --set clip_grad=1, into another --out"


def bad_clips(x: Tensor, labels: Tensor, report: Report, count: int) -> Tensor:
    """Which clips of a global batch of `count` are not finite in their joints, features and own loss, bool [3, count].

    From this process's rows: their skeletons `x`, labels, and the features and scores of the report.
    """
    teachers = report.inputs.teachers
    given = [_not_finite(rows) for rows in (teachers.rgb, teachers.text) if rows is not None]
    features = torch.stack(given).any(0) if given else torch.zeros(len(x), dtype=torch.bool, device=x.device)
    own = F.cross_entropy(report.scores.float(), labels, reduction="none")
    bad = torch.stack([_not_finite(x), features, ~own.isfinite()], 1)
    return everyones(bad.float(), count).T.bool().cpu()


def _not_finite(rows: Tensor) -> Tensor:
    return ~rows.flatten(1).isfinite().all(1)


def loss_error(names: Sequence[str], bad: Tensor, report: Report, state: State) -> RuntimeError:
    """The error for a step whose loss is not finite; `names` are the clips of its global batch, `bad` as above."""
    joints, features, own = (
        [name for name, is_bad in zip(names, kind.tolist(), strict=True) if is_bad] for kind in bad
    )
    step = f"epoch {state.epoch + 1}, step {report.step + 1}"
    terms = f"the loss ({', '.join(report.not_finite)}) is not finite"
    if joints or features:
        given = [("joints", joints), ("features", features)]
        where = " and ".join(f"the {what} of {few(clips, NAMES)}" for what, clips in given if clips)
        return RuntimeError(f"{step}: {terms}: NaN or Inf in {where}; {_kept(state)}; mend or leave out these clips")
    return RuntimeError(f"{step}: {terms} on {few(own or names, NAMES)}; {_kept(state)}; {SMALLER}")


def weight_error(state: State) -> RuntimeError:
    """The error for weights that are not finite after steps whose losses were."""
    return RuntimeError(
        f"epoch {state.epoch + 1}, step {state.step}: a weight is not finite after it; {_kept(state)}; {SMALLER}"
    )


def _kept(state: State) -> str:
    return f"{state.kept_in_words} is kept in state.pt" if state.kept_in_words else "nothing is kept"
