"""Stage two in this process and in others: tiny runs on small data sets with caches of made-up features."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.trainer.config import Config, as_dict, from_dict
from mmcl.trainer.data.samples import choose_cache, choose_caches
from mmcl.trainer.loop.checkpoint import EpochMetrics, State
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, Plan, plan

TINY = Config(
    split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=4, warmup=1, milestones=(3,), lr=0.05, seed=3
)


@dataclass
class Watch:
    """A Watcher made of functions."""

    on_step: Callable[[int, int], object] = lambda done, total: None
    on_epoch: Callable[[EpochMetrics], object] = lambda line: None

    def step(self, done: int, total: int) -> None:
        self.on_step(done, total)

    def epoch(self, line: EpochMetrics) -> None:
        self.on_epoch(line)


def features(data: Path, *, failed: tuple[str, ...] = ()) -> None:
    """An RGB and a text cache for all clips, by model `net` and `llm`."""
    names = list(read_skeletons(data / "skeletons.h5").names)
    rng = np.random.default_rng(0)
    reasons = ["broken video" if name in failed else "" for name in names]
    dataset = read_skeletons(data / "skeletons.h5").dataset
    for kind, model, column in (("rgb", "net", "feature"), ("text", "llm", "prompt_feature")):
        folder = create_cache(data, Recipe(kind, dataset, {"model": model}))
        write_part(folder, 0, names, reasons, {column: rng.normal(size=(len(names), 6)).astype(np.float32)})
        merge(folder)


def people(folder: Path, rule: str = "repeat", train_clips: int = 6) -> Path:
    """Three clips more than are trained on, of 25 joints, some with two bodies, three classes."""
    rng, clips = np.random.default_rng(0), train_clips + 3
    bodies = np.array([1, 2] * (clips // 2) + [2] * (clips % 2))
    found = [rng.normal(size=(m * 20, 25, 3)).astype(np.float32) for m in bodies]
    sides = np.array([TRAIN] * train_clips + [TEST] * 3, np.int8)
    folder.mkdir()
    skeletons = Skeletons(
        dataset="pairs",
        classes=("hug", "push", "wave"),
        layout=KINECT_V2,
        names=tuple(f"clip{row}" for row in range(clips)),
        labels=np.arange(clips) % 3,
        bodies=bodies,
        joints=Ragged.of(found),
        splits={"xsub": Split(sides, rule)},
    )
    write_skeletons(folder / "skeletons.h5", skeletons)
    return folder


def planned(data: Path, config: Config = TINY, *, rgb: str | None = "none", text: str | None = "none") -> Plan:
    """`rgb` and `text` as on the command line: None takes the cache that is there."""
    return plan(Job(data, data / "out", config, choose_cache(data, "rgb", rgb), choose_caches(data, text)))


def trained(data: Path, out: Path, config: Config = TINY, **caches: str | None) -> State:
    return train(planned(data, config, **caches), out, Watch())


def weights(out: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"{name}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def metrics(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(out: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in metrics(out)]


@dataclass(frozen=True)
class Order:
    """A training in another process: what kills it at which step, and in which process it is asked to stop."""

    data: Path
    out: Path
    config: Config
    kill_at: int = 0  # step of the run; 0: never
    signal: int = signal.SIGKILL
    half_state: int = 0  # killed half-way through writing this state, counted from 1
    kill_at_end: bool = False
    stop_at: int = 0
    stop_rank: int = 0
    save_every: float = 600.0

    def to_json(self) -> str:
        paths = {"data": str(self.data), "out": str(self.out), "config": as_dict(self.config)}
        return json.dumps(vars(self) | paths)


def obey(text: str) -> None:
    """Carry out an Order in this process; its caches are all that there are."""
    import mmcl.trainer.loop.epoch as epoch

    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(text)
    paths = {"data": Path(found["data"]), "out": Path(found["out"]), "config": from_dict(found["config"], "")}
    order, rank = Order(**(found | paths)), int(os.environ.get("RANK", "0"))
    epoch.SAVE_EVERY = order.save_every
    asked: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    if order.half_state:
        _die_while_saving(order.half_state)
    has = {kind: None if (order.data / kind).exists() else "none" for kind in ("rgb", "text")}
    calls = [0]

    def stop() -> bool:
        calls[0] += 1
        return bool(asked) or (order.stop_rank == rank and calls[0] == order.stop_at)

    def on_step(done: int, total: int) -> None:
        if done == order.kill_at:
            os.kill(os.getpid(), order.signal)

    def on_epoch(line: EpochMetrics) -> None:
        if order.kill_at_end and line.epoch == order.config.epochs:
            os.kill(os.getpid(), signal.SIGKILL)

    job = planned(order.data, order.config, **has)
    state = train(job, order.out, Watch(on_step, on_epoch), stop=stop)
    print(f"rank {rank} finished" if state.finished else f"rank {rank} stopped at {state.epoch} {state.step}")


def _die_while_saving(number: int) -> None:
    save, saved = torch.save, list[Path]()

    def half(content: object, path: Path) -> None:
        saved.append(path)
        if len(saved) == number:
            path.write_bytes(b"PK half a file")
            os.kill(os.getpid(), signal.SIGKILL)
        save(content, path)

    torch.save = half


def start(orders: Sequence[Order], **environment: str) -> subprocess.Popen[str]:
    """A process that carries out some orders one after the other."""
    code = "import sys\nfrom mmcl.tests.training import obey\nfor order in sys.argv[1:]: obey(order)"
    command = [sys.executable, "-c", code, *(order.to_json() for order in orders)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=pipe, stderr=pipe, text=True
    )


def launch(orders: Sequence[Order], world: int = 2) -> list[subprocess.Popen[str]]:
    """The processes of a launcher, that carry out the same orders together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(orders, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(world)]


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a process said, once it is over with that exit code."""
    with process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return out + err
