"""What is not done again: videos when the LLM is swapped, rows when a run was killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

from mmcl.cache.index import open_index
from mmcl.cache.store import find_caches
from mmcl.pipeline.demo.tiny import build_tiny
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.pipeline.extraction.plan import Request
from mmcl.pipeline.extraction.shard import UNIT
from mmcl.pipeline.videos.decoder import Decoders
from mmcl.pipeline.videos.video import Clip

from .extraction_runs import MODELS, Run, alone, clip_names, extract, extract_shown, new_data, request

POLL = 0.005  # seconds between two looks whether it is time to kill


def swap(videos: Path, work: Path) -> None:
    """Another LLM on the same clips: how many videos it opens, and its time against the first command's."""
    models = {name: str(build_tiny(name, work / "models")) for name in ("tiny-resnet", "tiny-blip-vqa", "tiny-llava")}
    data, prompts = new_data(work / "data", clip_names(videos)), [PROMPTS["holding-object"]]
    both = request(data, videos, rgb=models["tiny-resnet"], llm=models["tiny-blip-vqa"], prompts=prompts)
    other = request(data, None, llm=models["tiny-llava"], prompts=prompts)
    first, second, again = (alone(extract_shown, asked) for asked in (both, other, other))
    print(f"first command: {first.cost.wall:.1f} s, {first.cost.cpu:.1f} s of CPU, {first.decoded} videos decoded")
    for title, run in (("the swap", second), ("the swap, again", again)):
        print(
            f"{title}: {run.decoded} videos decoded, {run.made} rows made; {run.cost.wall / first.cost.wall:.2f} of "
            f"the first command's time, {run.cost.cpu / first.cost.cpu:.2f} of its CPU"
        )


def resume(videos: Path, work: Path) -> None:
    """A run killed in the last batch of a unit, where a kill loses most, and made again: what was done twice."""
    names, seen, read = clip_names(videos), work / "seen.log", work / "read.log"
    for log in (seen, read):
        log.write_bytes(b"")
    asked = request(new_data(work / "data", names), videos, rgb=f"{MODELS}:Waiting")
    settings = {"MMCL_BENCH_MS": "5", "MMCL_BENCH_LOG": str(seen)}
    killed = get_context("spawn").Process(target=_noting, args=(asked, settings, read))
    killed.start()
    while seen.stat().st_size < (len(names) // UNIT // 2 + 1) * UNIT - asked.batch // 2:
        time.sleep(POLL)
    killed.kill()
    killed.join()
    kept = {kind: _rows(asked.data, kind) for kind in ("person-images", "rgb")}
    run = alone(_noting, asked, settings, read)
    tried = 2  # blank images, one a command
    print(f"killed with {kept['person-images']} person images and {kept['rgb']} features of {len(names)} written")
    print(f"then {run.decoded} videos decoded and {run.made} rows made; a unit is {UNIT} clips")
    print(f"twice: {read.stat().st_size - len(names)} videos, {seen.stat().st_size - tried - len(names)} features")


def _noting(asked: Request, settings: dict[str, str], log: Path) -> Run:
    """An extraction that adds a byte to a file for each video it reads."""
    read = Decoders.read

    def noted(self: Decoders, path: Path, counts: Sequence[int]) -> list[Clip]:
        with log.open("ab") as file:
            file.write(b".")
        return read(self, path, counts)

    Decoders.read = noted
    return extract(asked, settings)


def _rows(data: Path, kind: str) -> int:
    return sum(len(open_index(folder).places) for folder in find_caches(data, kind))
