"""How the network is computed: in which precision, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.bodies import Bodies
from ..config import Config
from ..model import Outputs, SkeletonClassifier
from ..processes import summed
from .memory import is_short

Network = Callable[[Tensor, Bodies | None], Outputs]


def outputs_of(network: Network, x: Tensor, bodies: Bodies | None, config: Config) -> Outputs:
    """Feature and scores in float32; the network in between computes in bfloat16 where the config says so."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        outputs = network(x, bodies)
    return Outputs(outputs.feature.float(), outputs.scores.float())


def compiled(
    model: SkeletonClassifier, config: Config, device: torch.device, trial: Callable[[Network], None]
) -> tuple[Network, str]:
    """The network that training calls, the model or its compiled form, and why it is not compiled where that failed.

    `trial` computes forward and backward on a real batch, in all processes; it leaves no trace in the model.
    """
    if config.compile == "off":
        return model, ""
    network, why = torch.compile(model, mode=config.compile), ""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        trial(network)
    except Exception as error:
        if is_short(error):
            raise
        why = f"compile = {config.compile}: not compiled, {_in_a_line(error)}; training goes on without"
    finally:
        _restore(model, before)
    failed = summed(torch.tensor(float(bool(why)), device=device)).item()
    if failed and not why:
        why = f"compile = {config.compile}: not compiled, another process could not; training goes on without"
    return (model, why) if failed else (network, "")


@torch.no_grad()
def _restore(model: nn.Module, buffers: dict[str, Tensor]) -> None:
    """Statistics as they were before a trial; gradients are none."""
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    for parameter in model.parameters():
        parameter.grad = None


def _in_a_line(error: Any) -> str:
    """The kind of error and the first line of what it says, of its cause where it wraps one."""
    while error.__cause__ is not None:
        error = error.__cause__
    error = getattr(error, "inner_exception", error)
    first = next(iter(str(error).strip().splitlines()), "")
    return "".join(letter for letter in f"{type(error).__name__}: {first}" if letter.isprintable())[:300]
