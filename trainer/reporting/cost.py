"""The cost of a network, where it is used and where it was trained, as tables of facts."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ..testing.speed import Speed
from ..testing.training_cost import TeacherCost
from .content import Fact, Facts


def cost_of(parameters: int, folder: Path, speed: Speed | None) -> tuple[Facts, ...]:
    """What was measured, with the protocol; where nothing was, the parameters and the command that measures."""
    if speed is None:
        line = shlex.join(["mmcl", "evaluate", str(folder), "--speed"])
        unknown = Fact("speed", f"not measured; `{line}` does")
        return (Facts("At test time", (Fact("parameters", f"{parameters:,}"), unknown)),)
    return _tested(speed), Facts("In training only", tuple(_trained(speed)))


def _tested(speed: Speed) -> Facts:
    return Facts(
        "At test time",
        (
            Fact("parameters", f"{speed.parameters:,}"),
            Fact("multiply-adds a clip", f"{speed.multiply_adds / 1e9:.3g} G"),
            Fact("latency at batch 1", f"{1000 * speed.latency:.3g} ms"),
            Fact(f"throughput at batch {speed.batch}", f"{speed.throughput:,.3g} clips a second"),
            Fact("measured", speed.protocol),
            Fact("proof", speed.proof),
        ),
    )


def _trained(speed: Speed) -> Iterator[Fact]:
    yield Fact("parameters of FAM and FRM", _said(speed.heads))
    yield Fact("training", _said(speed.training_seconds, " s"))
    for teacher in speed.teachers:
        yield Fact(f"{teacher.kind} teacher, frozen", f"{teacher.name}: {', '.join(_teacher(teacher))}")


def _teacher(teacher: TeacherCost) -> Iterator[str]:
    yield f"parameters {_said(teacher.parameters)}"
    yield f"device time {_said(teacher.seconds, ' s')} for {_said(teacher.clips, ' clips')}"
    yield f"features {_said(teacher.clip_bytes, ' bytes a clip')}"


def _said(value: float | None, unit: str = "") -> str:
    if value is None:
        return "not known"
    return f"{value:,}{unit}" if isinstance(value, int) else f"{value:,.1f}{unit}"
