"""How fast training is, in ratios of two sides measured beside each other. What was seen is in docs/speed.md.

    python -m benchmarks.training step --reference ../CTR-GCN   # four minutes: network, step and evaluation; exactness
    python -m benchmarks.training memory                        # two minutes: peak of a step, in processes of their own
    python -m benchmarks.training colearning                    # six minutes: the whole step, the authors' beside it
    python -m benchmarks.training data                          # a minute: packed frames to batches
    python -m benchmarks.training epoch                         # half a minute, 3 GB of memory
    python -m benchmarks.training gpu                           # where there is one
    python -m benchmarks.training all

Run from the repository's root. --reference is a checkout of the original CTR-GCN, whose code then runs as it is;
without it the other side is the same equations, unfused, and a plain feeder. `colearning` needs torchvision for the
authors' step. Leave the machine alone meanwhile: what others took of it is said with each part.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from . import training_colearning, training_data, training_epoch, training_gpu, training_memory, training_step
from .extraction_runs import costing
from .training_rows import Row, as_json, machine, table

PARTS = ("step", "memory", "colearning", "data", "epoch", "gpu")
NO_GPU = "gpu: not run, torch finds no CUDA device here"


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 2 where the GPU's part alone was asked for and there is none."""
    asked = arguments(words)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    print(machine(), flush=True)
    found, wanted = dict[str, list[Row]](), list(PARTS) if "all" in asked.parts else asked.parts
    for part in wanted:
        if part == "gpu" and not torch.cuda.is_available():
            print(f"\n{NO_GPU}")
            continue
        found[part] = shown(part, measures(asked)[part])
    if asked.out:
        asked.out.write_text(
            json.dumps({"machine": machine(), **{p: as_json(rows) for p, rows in found.items()}}, indent=1)
        )
    return 2 if wanted == ["gpu"] and not found else 0


def measures(asked: argparse.Namespace) -> dict[str, Callable[[], list[Row]]]:
    reference, rounds = asked.reference, asked.rounds
    return {
        "step": lambda: training_step.step(reference, rounds),
        "memory": lambda: training_memory.memory(reference),
        "colearning": lambda: training_colearning.colearning(reference, rounds),
        "data": lambda: training_data.data(reference, rounds),
        "epoch": lambda: training_epoch.epoch(rounds),
        "gpu": lambda: training_gpu.gpu(reference, rounds),
    }


def shown(part: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """What a part found, printed; with what other processes took of the machine meanwhile."""
    rows, cost = costing(measure)
    print(f"\n{part} (others took {cost.others:.0%} of the machine)\n\n{table(rows)}", flush=True)
    return rows


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*PARTS, "all"], metavar="PART", help=", ".join([*PARTS, "all"]))
    parser.add_argument("--reference", type=Path, help="a checkout of the original CTR-GCN")
    parser.add_argument("--rounds", type=int, default=9, help="how often each side has its turn; medians count")
    parser.add_argument("--threads", type=int, default=0, help="of torch; as many as it takes if not given")
    parser.add_argument("--out", type=Path, help="a JSON file for what was found")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
