"""FAM, the feature alignment module: the skeleton feature is drawn to what an RGB network saw of the same clip."""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..processes import everyones, share
from .standardise import Standardise

LEAST, MOST = 0.01, 10.0  # where a learned temperature stays


class Alignment(nn.Module):
    """F_c = MLP(RGB feature), [N, D_rgb] to [N, D]; the skeleton feature itself is not projected (MMCL, sec. 3.2).

    Not the paper's: `project` gives the skeleton side a projection too, and `learned` a temperature that starts at
    `temperature` and is learned as its logarithm (CLIP, sec. 2.5). ValueError where it can't start there.
    """

    def __init__(
        self,
        standardise: Standardise,
        feature_dim: int,
        *,
        temperature: float = 0.4,
        learned: bool = False,
        project: bool = False,
    ) -> None:
        super().__init__()
        if learned and not LEAST <= temperature <= MOST:
            raise ValueError(f"temperature = {temperature}: one that is learned starts between {LEAST} and {MOST:g}")
        self.standardise = standardise
        self.mlp = _mlp(standardise.dim, feature_dim)
        self.projection = _mlp(feature_dim, feature_dim) if project else nn.Identity()
        self.log_temperature = nn.Parameter(torch.tensor(log(temperature))) if learned else None
        self._temperature = temperature

    @property
    def temperature(self) -> Tensor | float:
        """tau; a learned one is held between 0.01 and 10."""
        if self.log_temperature is None:
            return self._temperature
        with torch.no_grad():  # its own value is held, as in CLIP: behind a clamp no gradient would bring it back
            self.log_temperature.clamp_(log(LEAST), log(MOST))
        return self.log_temperature.exp()

    def forward(self, rgb: Tensor) -> Tensor:
        return self.mlp(self.standardise(rgb))


def _mlp(entering: int, leaving: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(entering, leaving), nn.ReLU(), nn.Linear(leaving, leaving))


def align_loss(
    skeleton: Tensor,
    rgb: Tensor,
    present: Tensor,
    labels: Tensor,
    temperature: Tensor | float = 0.4,
    *,
    count: int,
    same_class: bool = True,
) -> Tensor:
    """Symmetric contrastive loss between paired features [n, D] (MMCL, L_c; the GRACE form).

    This process's share: summed over all processes it is the mean over the clips that are `present` [n] among the
    `count` of the global batch, 0 where there are none. Negatives are every other present clip of both modalities, over
    all processes; without `same_class` only those of other labels [n]. The paper prints it without the minus sign.
    """
    a, b = F.normalize(skeleton, dim=1), F.normalize(rgb, dim=1)
    beside = torch.stack([present, labels], 1).to(a)
    every_a, every_b, about = everyones(torch.cat([a, b, beside], 1), count).tensor_split(
        (a.shape[1], 2 * a.shape[1]), 1
    )
    there, classes = about.detach().unbind(1)
    itself = torch.eye(count, dtype=torch.bool, device=a.device)[share().rows(count)]
    left_out = (there == 0).expand_as(itself)
    if not same_class:
        left_out = left_out | (beside[:, 1:] == classes)
    to_rgb = _one_way(a, every_b, every_a, itself, left_out, temperature)
    to_skeleton = _one_way(b, every_a, every_b, itself, left_out, temperature)
    each = torch.where(present, (to_rgb + to_skeleton) / 2, 0)
    return each.sum() / there.sum().clamp(min=1)


def _one_way(
    a: Tensor, other: Tensor, own: Tensor, itself: Tensor, left_out: Tensor, temperature: Tensor | float
) -> Tensor:
    """l(a, b)_i = -log( e^{s(a_i,b_i)/tau} / (sum_k e^{s(a_i,b_k)/tau} + sum_{k != i} e^{s(a_i,a_k)/tau}) ), [n].

    `other` and `own` are everyone's b and a; a clip's own pair always stays in.
    """
    across, within = a @ other.T / temperature, a @ own.T / temperature
    pair = across.gather(1, itself.long().argmax(1, keepdim=True))[:, 0]
    across = across.masked_fill(left_out & ~itself, -torch.inf)
    within = within.masked_fill(left_out | itself, -torch.inf)
    return torch.cat([across, within], 1).logsumexp(1) - pair
