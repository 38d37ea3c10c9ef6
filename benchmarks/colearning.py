"""Does alignment with a frozen RGB network help? Skeleton only, + FAM, + FAM with shuffled features; several seeds.

    python benchmarks/colearning.py data/utd-mhad --rgb benchmarks.encoders:EfficientNetLite0 --out runs/colearning

Every cell is one `mmcl train` and one `mmcl evaluate` of the config shipped for the data set; only the seed and the
features differ. Shuffled features are the same rows dealt to other training clips: they keep the feature's distribution
and the loss, and lose what the clip looked like. Resumable: run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, read_skeletons
from mmcl.cache.store import create_cache, open_cache, write_part
from mmcl.trainer.config import read_config, shipped_config
from mmcl.trainer.data.samples import choose_cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rgb", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    rgb = choose_cache(asked.data, "rgb", asked.rgb)
    assert rgb is not None
    cells = {"skeleton only": "none", "+ FAM": rgb.name, "+ FAM, shuffled features": shuffled(asked.data, rgb).name}
    found = {}
    for name, key in cells.items():
        runs = [cell(asked.data, key, seed, asked.out) for seed in range(1, asked.seeds + 1)]
        found[name] = {metric: [run[metric] for run in runs] for metric in ("top1", "mean_class_accuracy")}
    (asked.out / "colearning.json").write_text(json.dumps(found, indent=1))
    print("| training | top-1 by seed | mean | deviation |\n|---|---|---|---|")
    for name, metrics in found.items():
        top1 = 100 * np.array(metrics["top1"])
        print(f"| {name} | {', '.join(f'{v:.2f}' for v in top1)} | {top1.mean():.2f} | {top1.std(ddof=1):.2f} |")


def shuffled(data: Path, folder: Path) -> Path:
    """A cache like `folder` in which the training clips' features are dealt to one another (seed 0)."""
    skeletons, rows = read_skeletons(data / "skeletons.h5"), open_cache(folder)
    split = read_config(shipped_config(skeletons.dataset, skeletons.coordinates))["split"]
    names = [skeletons.names[row] for row in skeletons.rows(split, TRAIN)]
    train = np.array([rows.row_of[name] for name in names if name not in rows.failures])
    dealt = rows.array("feature").copy()
    dealt[train] = dealt[np.random.default_rng(0).permutation(train)]
    settings = {
        **rows.recipe.settings,
        "model": "shuffled",
        "shuffled_from": rows.recipe.key,
        "rows": sum(rows.checksums.values()),
    }
    target = create_cache(data, Recipe("rgb", skeletons.dataset, settings))
    if not (target / "cache.h5").exists():
        write_part(target, 0, rows.names, [rows.failures.get(name, "") for name in rows.names], {"feature": dealt})
        merge(target)
    return target


def cell(data: Path, key: str, seed: int, out: Path) -> dict[str, float]:
    run = out / f"{key}-seed{seed}"
    mmcl = [sys.executable, "-m", "mmcl.cli"]
    train = ["train", str(data), "--rgb", key, "--text", "none", "--set", f"seed={seed}", "--out", str(run)]
    subprocess.run([*mmcl, *train], check=True)
    subprocess.run([*mmcl, "evaluate", str(run)], check=True)
    return json.loads((run / "evaluation" / "results.json").read_text())


if __name__ == "__main__":
    main()
