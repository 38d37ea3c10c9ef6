"""How fast stage one is, in ratios of two sides measured beside each other. What was seen is in docs/speed.md.

    python -m benchmarks.extraction open swap resume stages parts         # about half a minute each
    python -m benchmarks.extraction overlap usual --videos RAW/DepthVideo # five minutes each
    python -m benchmarks.extraction memory                                # four minutes, 3 GB of disk
    python -m benchmarks.extraction gpu --rgb microsoft/resnet-34 --llm Qwen/Qwen2.5-VL-3B-Instruct

Run from the repository's root. Without --videos, videos of the demo's figures are made once, under --work. `stages`,
`parts` and `usual` take benchmarks/encoders.py's network unless --rgb names another. Times are told from a busy
machine's by what others had of it: runs that were disturbed are better made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmcl.pipeline.demo.synthetic import make_dataset

from . import (
    extraction_again,
    extraction_cache,
    extraction_gpu,
    extraction_memory,
    extraction_overlap,
    extraction_usual,
)

TRIALS = 15  # 900 clips


def main() -> None:
    asked = arguments()
    work, rgb, rounds = asked.work, asked.rgb, asked.rounds
    work.mkdir(parents=True, exist_ok=True)
    videos = asked.videos or acted(work / "acted")
    measure = {
        "open": lambda: extraction_cache.opening(work),
        "overlap": lambda: extraction_overlap.overlap(videos, work, rounds),
        "stages": lambda: extraction_overlap.stages(videos, work, rgb),
        "swap": lambda: extraction_again.swap(videos, work),
        "resume": lambda: extraction_again.resume(videos, work),
        "parts": lambda: extraction_cache.parts(videos, work, rgb),
        "usual": lambda: extraction_usual.usual(videos, work, rgb, rounds),
        "memory": lambda: extraction_memory.memory(work),
        "gpu": lambda: extraction_gpu.gpu(videos, work, {"rgb": rgb, "llm": asked.llm}, rounds),
    }
    for part in asked.parts:
        print(f"\n{part}", flush=True)
        measure[part]()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["open", "overlap", "stages", "swap", "resume", "parts", "usual", "memory", "gpu"]
    parser.add_argument("parts", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--videos", type=Path, help="a folder of videos, all of which are clips")
    parser.add_argument("--rgb", default="benchmarks.encoders:EfficientNetLite0", help="an RGB network")
    parser.add_argument("--llm", help="an LLM for the part gpu")
    parser.add_argument("--work", type=Path, default=Path("runs/extraction-benchmark"), help="where everything goes")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side has its turn")
    return parser.parse_args()


def acted(folder: Path) -> Path:
    """The demo's videos, made unless they are there."""
    make_dataset(folder, trials=TRIALS)
    return folder / "videos"


if __name__ == "__main__":
    main()
