"""How fast an exported network is, in ratios of two sides measured beside each other; docs/speed.md has what was seen.

    python -m benchmarks.inference                              # five minutes: CTR-GCN beside its equations unfused
    python -m benchmarks.inference --backbones all --reference ../CTR-GCN

Run from the repository's root. One side is the exported file in ONNX Runtime, raw joints in, the preprocessing inside;
the other is PyTorch with the product's preprocessing: CTR-GCN as the original's code (`--reference`) or the same
equations unfused, and each network as `mmcl evaluate` runs it. Same weights, clips and threads; the sides take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from mmcl.cache.skeletons import TEST, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.config import Config
from mmcl.trainer.data.skeleton import batch, body_of, pack
from mmcl.trainer.inference.agreement import filled
from mmcl.trainer.inference.onnx import graph_of
from mmcl.trainer.model import SkeletonClassifier, build_model
from mmcl.trainer.run import Run

from .training_networks import TWO, ours, unfused
from .training_rows import Call, Row, alternating, faster, machine, table

FRAMES, LEAST = 90, 1.4  # frames of a clip; the target, for CTR-GCN against the unfused network
THREADS, SIZES = (2, 1), (16, 1)


def main(words: Sequence[str] | None = None) -> None:
    asked = arguments(words)
    print(machine(), flush=True)
    names = list(BACKBONES) if "all" in asked.backbones else asked.backbones
    rows = [row for name in names for row in measured(name, asked.reference, asked.rounds)]
    print(f"\nonnxruntime {onnxruntime.__version__}\n\n{table(rows)}")


def measured(name: str, reference: Path | None, rounds: int) -> list[Row]:
    """An exported network's rows, for each number of threads and each batch."""
    run = made_up_run(name)
    plain = unfused(TWO, reference) if name == "ctrgcn" else None
    model = ours(TWO, plain) if plain else build_model(name, TWO.layout, bodies=2, width=64, classes=TWO.classes)
    others: dict[str, nn.Module] = {"PyTorch as `mmcl evaluate` runs it": model.eval()}
    if plain:
        others = {"the original's code" if reference else "the equations unfused": plain.eval()} | others
    rows = list[Row]()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph_of(run, model, {}).SerializeToString())
        for threads in THREADS:
            torch.set_num_threads(threads)
            for size in SIZES:
                rows += beside(path, run, others, threads, size, rounds)
                print(table(rows[-len(others) :]), flush=True)
    return rows


def beside(path: Path, run: Run, others: dict[str, nn.Module], threads: int, size: int, rounds: int) -> list[Row]:
    """The exported file beside each of some networks in PyTorch."""
    skeletons, body = two_bodies(run, size), body_of(run.layout, run.slots, run.body_rule)
    packed, clips = pack(skeletons), torch.arange(size)
    feed, session = filled(skeletons, list(range(size)), run.slots), session_of(path, threads)

    def exported() -> object:
        return session.run(None, feed)

    def in_torch(network: nn.Module) -> Call:
        def call() -> Tensor:
            with torch.inference_mode():
                found = network(batch(packed, clips, body, run.config, None))
                return (found.scores if isinstance(network, SkeletonClassifier) else found).softmax(1)

        return call

    rows = list[Row]()
    for title, network in others.items():
        least = LEAST if len(others) > 1 and not rows else None
        seconds = alternating([in_torch(network), exported], rounds)
        what = f"{run.config.backbone}, batch {size}, {threads} thread{'s' * (threads > 1)}, times {title}"
        rows.append(faster(what, seconds, least))
    return rows


def session_of(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def made_up_run(name: str) -> Run:
    """Joints of NTU RGB+D: two bodies, 64 frames, width 64."""
    return Run(
        config=Config(backbone=name, width=TWO.width, window=TWO.frames),
        dataset="noise",
        data="",
        skeletons="",
        classes=tuple(map(str, range(TWO.classes))),
        layout=TWO.layout,
        slots=TWO.slots,
        body_rule="repeat",
        train_clips=0,
        held_out_clips=0,
        rgb=None,
        text=(),
        missing={},
        versions={},
    )


def two_bodies(run: Run, clips: int) -> Skeletons:
    """Clips of two bodies, smooth in time."""
    rng = np.random.default_rng(0)
    walks = rng.normal(size=(clips, run.slots, FRAMES, len(run.layout.joints), 3)).cumsum(2) * 0.05
    return Skeletons(
        dataset=run.dataset,
        classes=run.classes,
        layout=run.layout,
        names=tuple(map(str, range(clips))),
        labels=np.zeros(clips, np.int64),
        bodies=np.full(clips, run.slots),
        joints=Ragged.of([walk.reshape(-1, *walk.shape[2:]).astype(np.float32) for walk in walks]),
        splits={"all": Split(np.full(clips, TEST, np.int8))},
    )


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=[*BACKBONES, "all"], default=["ctrgcn"], metavar="NAME")
    parser.add_argument("--reference", type=Path, help="a checkout of the original CTR-GCN")
    parser.add_argument("--rounds", type=int, default=9, help="how often each side has its turn; medians count")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
