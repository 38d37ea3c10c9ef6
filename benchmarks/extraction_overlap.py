"""What runs beside what: an extraction's time against the least that its work could take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .extraction_runs import CORES, MODELS, Run, alone, clip_names, extract, extract_shown, new_data, quiet, request

SHARE = 4  # a device of ten times the decode's cost is shown every so many-th clip, for the time it takes


@dataclass(frozen=True)
class Case:
    """An encoder that costs `seconds` a clip, `times` what decoding one takes of CPU, and the clips it is shown."""

    kind: str
    times: int
    seconds: float
    names: Sequence[str]
    runs: list[Run] = field(default_factory=list)

    def run(self, videos: Path, work: Path) -> None:
        settings, rgb = {"MMCL_BENCH_MS": str(1000 * self.seconds)}, f"{MODELS}:{self.kind}"
        self.runs.append(
            quiet(lambda: alone(extract, request(new_data(work / "data", self.names), videos, rgb=rgb), settings))
        )

    @property
    def serial(self) -> float:
        return self.seconds * len(self.names)

    def ratio(self, run: Run) -> float:
        """Wall time against the larger of all CPU work on all cores and the device's."""
        return run.cost.wall / max(run.cost.cpu / CORES, self.serial)


def overlap(videos: Path, work: Path, rounds: int) -> None:
    """With a device that takes as long as decoding and ten times as long, and CPU or none of it."""
    names = clip_names(videos)
    decoding = quiet(lambda: alone(extract, request(new_data(work / "data", names), videos), {}))
    clip = decoding.cost.children / len(names)
    cases = [
        Case(kind, times, clip * times, names[:: 1 if times == 1 else SHARE])
        for times in (1, 10)
        for kind in ("Waiting", "Burning")
    ]
    print(f"decoding a clip takes {1000 * clip:.1f} ms of CPU; each ratio wanted: at most 1.15")
    for number in range(rounds):
        for case in cases:
            case.run(videos, work)
            print(f"round {number + 1}: {told(case, case.runs[-1])}", flush=True)
    for case in cases:
        print(f"median:  {told(case, sorted(case.runs, key=case.ratio)[len(case.runs) // 2])}")


def told(case: Case, run: Run) -> str:
    cost, work = run.cost, f"{case.kind}, {case.times} times, {len(case.names)} clips"
    return (
        f"{work}: ratio {case.ratio(run):.2f} (wall {cost.wall:.2f} s, CPU on all cores {cost.cpu / CORES:.2f} s, "
        f"device {case.serial:.2f} s; others had {cost.others:.0%})"
    )


def stages(videos: Path, work: Path, rgb: str) -> None:
    """The product's own tables, of an extraction with an RGB network."""
    run = alone(extract_shown, request(new_data(work / "data", clip_names(videos)), videos, rgb=rgb))
    print(f"wall {run.cost.wall:.1f} s, CPU {run.cost.cpu:.1f} s; others had {run.cost.others:.0%} of the machine")
