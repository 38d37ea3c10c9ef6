"""Against the way people do it: one clip at a time, in one process, with a seek a frame and a batch of one."""

from __future__ import annotations

import statistics
from pathlib import Path

import cv2
import numpy as np

from mmcl.pipeline.encoders.encoder import load_rgb
from mmcl.pipeline.videos.person import image_layout
from mmcl.pipeline.videos.video import bin_centres

from .extraction_runs import Run, alone, clip_names, costing, extract, new_data, quiet, request


def usual(videos: Path, work: Path, rgb: str, rounds: int) -> None:
    """The same model on the same clips, by turns; from the loaded libraries to the features in a file."""
    names = clip_names(videos)
    slow, fast = list[Run](), list[Run]()
    for _ in range(rounds):
        slow.append(quiet(lambda: alone(one_at_a_time, videos, work / "features.npz", rgb)))
        fast.append(quiet(lambda: alone(extract, request(new_data(work / "data", names), videos, rgb=rgb), {})))
    for side, runs in (("one clip at a time", slow), ("mmcl", fast)):
        each = " ".join(f"{run.cost.wall:.1f}" for run in runs)
        print(
            f"{side}: {_median(runs):.1f} s ({each}), {statistics.median(run.cost.cpu for run in runs):.1f} s of CPU; "
            f"others had {max(run.cost.others for run in runs):.0%} of the machine"
        )
    print(f"ratio {_median(slow) / _median(fast):.2f}")


def _median(runs: list[Run]) -> float:
    return statistics.median(run.cost.wall for run in runs)


def one_at_a_time(videos: Path, file: Path, rgb: str) -> Run:
    """As a script of one evening does it."""

    def work_through() -> None:
        encoder, layout, features = load_rgb(rgb, device="cpu")[0], image_layout("strip"), dict[str, np.ndarray]()
        for path in sorted(videos.iterdir()):
            frames = seek(path, layout.frames)
            whole = np.tile((0, 0, frames.shape[2], frames.shape[1]), (len(frames), 1))
            image = layout.compose(frames, whole)
            features[path.stem] = np.asarray(encoder.encode(encoder.prepare([image]))["feature"])[0]
        np.savez(file, **features)  # type: ignore[arg-type]

    return Run(costing(work_through)[1])


def seek(path: Path, count: int) -> np.ndarray:
    """Frames uint8 RGB [count, H, W, 3] by a jump to each."""
    capture, frames = cv2.VideoCapture(str(path)), []
    for number in bin_centres(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        frames.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    return np.stack(frames)
