"""Packed clips: views of the cache's memory map, and which bodies of a batch are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmcl.cache.table import Ragged
from mmcl.tests.joints import CROP, RANDOM, clips, drawn, made
from mmcl.trainer.config import STREAMS, Config
from mmcl.trainer.data.skeleton import Body, Computed, every_slot, pack


def test_packing_views_the_memory_map_and_never_writes_to_it(tmp_path: Path):
    """No copy of the joints, no warning that they are read-only, and their file as it was."""
    skeletons, path = clips(), tmp_path / "joints"
    skeletons.joints.values.tofile(path)
    before = path.read_bytes()
    mapped = np.memmap(path, np.float32, "r", shape=skeletons.joints.values.shape)
    view = replace(skeletons, joints=Ragged(np.asarray(mapped), skeletons.joints.offsets))
    assert pack(view).joints.data_ptr() == mapped.ctypes.data
    for config in (CROP, RANDOM):
        draws = drawn(skeletons, config)
        assert torch.equal(made(view, config, draws), made(skeletons, config, draws))
    assert path.read_bytes() == before


def test_joints_that_are_not_aligned_are_copied():
    """A file may hold them at any byte."""
    skeletons = clips()
    values = skeletons.joints.values
    shifted = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(np.float32).reshape(values.shape)
    moved = replace(skeletons, joints=Ragged(shifted, skeletons.joints.offsets))
    assert not shifted.flags.aligned and pack(moved).joints.data_ptr() % 4 == 0
    assert torch.equal(made(moved, CROP, None), made(skeletons, CROP, None))


@pytest.mark.parametrize("rule", ["zero", "repeat"])
@pytest.mark.parametrize("base", [CROP, RANDOM], ids=["crop", "random"])
@pytest.mark.parametrize("stream", STREAMS)
def test_computing_every_slot_gives_what_computing_real_bodies_gives(
    base: Config, stream: str, rule: str, monkeypatch: pytest.MonkeyPatch
):
    """The way of a GPU, which must not be asked how many bodies are there."""
    skeletons, config = clips(), replace(base, stream=stream)
    draws = drawn(skeletons, config)
    wanted = made(skeletons, config, draws, rule, 3)

    def always(bodies: Tensor, body: Body) -> Computed:
        return every_slot(torch.arange(body.slots) < bodies[:, None], body.rule == "repeat")

    monkeypatch.setattr("mmcl.trainer.data.skeleton.computed_bodies", always)
    assert torch.equal(made(skeletons, config, draws, rule, 3), wanted)


def test_a_batch_lies_in_memory_as_the_network_reads_it():
    """[N, M, V, C, T]: the network's first batch norm takes it without a copy."""
    found = made(clips(), CROP, None)
    assert found.shape == (6, 3, 16, 5, 2) and found.permute(0, 4, 3, 1, 2).is_contiguous()


def test_more_bodies_than_slots_are_left_out():
    """A network of one slot sees the first body, and scales by it alone."""
    skeletons = clips([30, 30], [1, 2])
    joints = Ragged.of([skeletons.joints[0], skeletons.joints[1][:30]])
    first = replace(skeletons, bodies=np.array([1, 1]), joints=joints)
    for config in (CROP, RANDOM):
        assert torch.equal(made(skeletons, config, None, slots=1), made(first, config, None, slots=1))
