"""The peak memory of a training step, in a process of its own, ours against the original's.

python -m benchmarks.training_memory ours|unfused two|one [CHECKOUT]      # one measurement, in MB
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

from .training_networks import ONE, TWO, Case, batch_of, ours, scores_of, training, unfused
from .training_rows import Row

CASES = {"two": TWO, "one": ONE}
TARGETS = {"two": None, "one": 0.75}
STEPS, TIMES = 2, 3  # steps before the peak is read, processes of each kind
# freed memory goes back at once: the peak is what the step holds, not what the allocator keeps
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}


def memory(reference: Path | None) -> list[Row]:
    rows, other = list[Row](), "the original's" if reference else "the plain network's"
    for name, case in CASES.items():
        theirs, own = (median_peak(side, name, reference) for side in ("unfused", "ours"))
        what = f"{case.name}: peak memory of a training step, of {other} ({theirs:,.0f} MB, ours {own:,.0f} MB)"
        rows.append(Row(what, own / theirs, most=TARGETS[name]))
    return rows


def median_peak(side: str, case: str, reference: Path | None) -> float:
    words = [sys.executable, "-m", "benchmarks.training_memory", side, case, *([str(reference)] if reference else [])]
    environment = {**os.environ, **GIVING_BACK}
    found = [subprocess.run(words, check=True, capture_output=True, env=environment) for _ in range(TIMES)]
    return statistics.median(float(run.stdout) for run in found)


def peak(side: str, case: Case, reference: Path | None) -> float:
    """MB that training steps take at most, above what network, clips and libraries held before; optimizer included."""
    theirs, (x, labels) = unfused(case, reference), batch_of(case)
    if side == "ours":
        network = ours(case, theirs)
        step = training(network, scores_of(network, case), x, labels, fused=True)
    else:
        step = training(theirs, theirs, x, labels, fused=False)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    for _ in range(STEPS):
        step()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    side, case, *checkout = sys.argv[1:]
    print(peak(side, CASES[case], Path(checkout[0]) if checkout else None))
