"""`mmcl demo`: every stage in its order, on data and models that it makes itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Metrics(Protocol):
    """What the demo shows of an evaluation; accuracies are shares in [0, 1]."""

    @property
    def top1(self) -> float: ...
    @property
    def chance(self) -> float: ...
    @property
    def clips(self) -> int: ...


def show_whole_way(
    out: Path, train: Callable[[Path, Path, str, str], None], evaluate: Callable[[Path], Metrics]
) -> None:
    """Run all of it under `out`; `train(data, run, rgb, text)` and `evaluate(run)` are the commands of stage two."""
    from ...cache.store import move_caches
    from ...cache.terminal import bars, new_console, say
    from ..data_commands import prepare
    from ..extract_command import extract_features
    from ..report import DEMO_END, demo_table
    from .synthetic import make_dataset
    from .tiny import build_tiny

    console = new_console()

    def step(text: str) -> None:
        say(console, f"\n{text}", "bold")

    raw, data, run, aside = out / "raw", out / "data" / "demo", out / "run", out / "caches-moved-away"
    move_caches(aside, data)  # back, where a demo was killed in between
    step("1. Made here: articulated skeletons acting out 6 classes, and videos rendered from them")
    with bars(console) as bar:
        make_dataset(raw, progress=bar("clips"))
    prepare("folder", raw, data)
    step("2. Stage one: features from tiny models with random weights. They know nothing; yours will.")
    models = {name: str(build_tiny(name, out / "models")) for name in ("tiny-resnet", "tiny-blip-vqa", "tiny-llava")}
    extract_features(data, raw / "videos", models["tiny-resnet"], models["tiny-blip-vqa"], person="frame")
    step("3. Stage two: CTR-GCN against the cached features")
    train(data, run, "tiny-resnet", "tiny-blip-vqa")
    step(f"4. Evaluation, with the feature caches moved away to {aside}")
    move_caches(data, aside)
    try:
        metrics = evaluate(run)
    finally:
        move_caches(aside, data)
    step("5. Another LLM: person images and RGB features stay as they are, no video is opened")
    extract_features(data, rgb=models["tiny-resnet"], llm=models["tiny-llava"])
    console.print(demo_table(metrics.top1, metrics.chance, metrics.clips))
    say(console, DEMO_END.format(data=data, run=run, raw=raw))
