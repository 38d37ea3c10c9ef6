"""Which process makes what: fixed work units, every n-th of them to a process, and no talk between processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

UNIT = 64  # clips a part file: what a kill can lose


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` processes; `local` is its number on its machine, `beside` how many work there."""

    index: int = 0
    count: int = 1
    local: int = 0
    beside: int = 1

    def units(self, names: Sequence[str]) -> list[tuple[int, list[str]]]:
        """This process's units of the sample list: (number, names). Unit k is the same whoever makes it."""
        starts = range(self.index * UNIT, len(names), self.count * UNIT)
        return [(start // UNIT, list(names[start : start + UNIT])) for start in starts]

    @property
    def cores(self) -> int:
        """CPU cores for this process."""
        return max(1, len(os.sched_getaffinity(0)) // self.beside)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard()  # one process makes everything


def find_shard(asked: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The share of this process: `--shard i/n`, split further among the ranks of torchrun or accelerate launch.

    Raises ValueError where `asked` is not i/n with 0 <= i < n, or the environment speaks of no such rank.
    """
    index, count = (0, 1) if asked is None else _parse(asked)
    rank, world, local, beside = (
        environment.get(name, default)
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    if not (_is_share(rank, world) and local.isdecimal() and beside.isdecimal()):
        raise ValueError(
            f"the environment says RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local} LOCAL_WORLD_SIZE={beside}, which "
            "is no process of torchrun's; unset them, and share the work with --shard i/n"
        )
    return Shard(index * int(world) + int(rank), count * int(world), int(local), int(beside) or 1)


def find_device(asked: str | None, shard: Shard) -> str:
    """The device asked for, or this process's accelerator, or the CPU.

    Raises ValueError where the asked one can't be used here.
    """
    if asked == "auto":
        if shard.beside > 1:
            raise ValueError(
                f"--device auto: {shard.beside} processes on this machine would each take all of its GPUs; start one, "
                "or give each its own with CUDA_VISIBLE_DEVICES and --shard i/n"
            )
        return asked
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind = found.type if found else None
    if asked in (None, kind):
        return f"{kind}:{shard.local % torch.accelerator.device_count()}" if kind else "cpu"
    try:
        return str(torch.empty(0, device=asked).device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {asked}: can't be used here ({reason}); leave it out") from error


def take_device(device: str) -> None:
    """Have what this process makes on its GPU, pinned memory too, belong to that GPU and to no other."""
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)


def device_name(device: str) -> str:
    """What a part says of the device that made it."""
    if device == "auto":
        device = find_device(None, Shard())
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device.split(":")[0]


def _parse(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not _is_share(index, count):
        raise ValueError(f"--shard {text}: wanted i/n with i from 0 to n-1, such as 0/8 to 7/8")
    return int(index), int(count)


def _is_share(index: str, count: str) -> bool:
    return index.isdecimal() and count.isdecimal() and int(index) < int(count)
