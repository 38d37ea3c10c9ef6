"""A damaged run, a machine without the accelerator that torch was built for, and a launcher's processes."""

from __future__ import annotations

import pytest
import torch

from mmcl.trainer.backbones.originals.load import load_original
from mmcl.trainer.loop.checkpoint import load_state
from mmcl.trainer.loop.device import find_device, process_device


def test_a_build_for_a_gpu_on_a_machine_without_one_computes_on_the_cpu():
    """torch from PyPI is built for CUDA; what counts is what is there."""
    wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert find_device().type == wanted


@pytest.mark.parametrize("find", [find_device, process_device])
@pytest.mark.parametrize("name", ["toaster", "cuda:99"])
def test_a_device_that_is_none_is_refused_in_a_line(find, name):
    with pytest.raises(ValueError, match=rf"--device {name}: .* be used here .*; leave it out"):
        find(name)
    assert find("cpu").type == "cpu"


def test_what_runs_in_one_process_refuses_a_launcher(monkeypatch):
    """On a machine without a GPU, too."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(RuntimeError, match="4 processes: this command runs in one; start it without a launcher"):
        find_device()


def launched(monkeypatch, *, processes: int, gpus: int) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, str(processes))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    """Two on one GPU could not talk to each other; said before they try."""
    launched(monkeypatch, processes=4, gpus=2)
    with pytest.raises(ValueError, match="4 processes on a machine with 2 GPUs; start one a GPU, or --device cpu"):
        process_device()


@pytest.mark.parametrize(("asked", "gpus"), [("cuda:1", 4), ("cuda:1", 0), ("cuda", 0), ("mps", 0)])
def test_processes_do_not_all_take_the_one_device_that_was_asked_for(monkeypatch, asked, gpus):
    launched(monkeypatch, processes=4, gpus=gpus)
    with pytest.raises(ValueError, match=rf"--device {asked}: 4 processes take a GPU each, or --device cpu; leave it"):
        process_device(asked)


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
