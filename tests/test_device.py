"""A damaged run and a machine without the accelerator that torch was built for."""

from __future__ import annotations

import pytest
import torch

from mmcl.trainer.backbones.original import load_original
from mmcl.trainer.loop.checkpoint import load_state
from mmcl.trainer.loop.device import find_device


def test_a_build_for_a_gpu_on_a_machine_without_one_computes_on_the_cpu():
    """torch from PyPI is built for CUDA; what counts is what is there."""
    wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert find_device().type == wanted


def test_a_device_that_is_none_is_refused_in_a_line():
    with pytest.raises(ValueError, match=r"--device toaster: .* be used here .*; leave it out"):
        find_device("toaster")
    assert find_device("cpu").type == "cpu"


def test_float32_is_float32():
    find_device()
    assert torch.backends.cudnn.allow_tf32 is False


@pytest.mark.parametrize("content", [b"", b"PK half a file", b"garbage" * 100])
def test_a_damaged_state_names_the_file_and_the_next_step(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"state\.pt: damaged .*; move it away to train from the start"):
        load_state(tmp_path, {}, optimizer)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save({"weights": print}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match=r"code\.pt: not a file of arrays"):
        load_original(tmp_path / "code.pt")
