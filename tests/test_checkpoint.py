"""Checkpoints: found by folder or hub id, known by their bytes, and the tiny ones that are built here."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmcl.pipeline.demo.tiny import TINY, build_tiny
from mmcl.pipeline.encoders.checkpoint import fingerprint
from mmcl.pipeline.encoders.encoder import ENCODERS
from mmcl.pipeline.encoders.prompts import PROMPTS

QUESTION = PROMPTS["touching-head"]


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    return models


def test_a_hub_model_is_known_by_its_commit(tiny: Path, tmp_path: Path, monkeypatch):
    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "models--someone--tiny-llava"
    shutil.copytree(tiny / "tiny-llava", cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (encoder,) = ENCODERS["text"]("someone/tiny-llava", device="cpu", prompts=[QUESTION])
    assert (encoder.settings["model"], encoder.settings["fingerprint"]) == ("someone/tiny-llava", commit)


def test_hidden_files_are_no_part_of_a_fingerprint(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-resnet", tmp_path / "copy")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "downloaded").write_text("today")
    assert fingerprint(copy) == fingerprint(tiny / "tiny-resnet")


def test_a_text_or_a_picture_beside_the_weights_changes_no_key(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-resnet", tmp_path / "copy")
    for name in ("README.md", "LICENSE", "LICENSE.txt", "teaser.PNG"):
        (copy / name).write_text("about it")
    assert fingerprint(copy) == fingerprint(tiny / "tiny-resnet")
    (copy / "vocab.txt").write_text("yes")
    assert fingerprint(copy) != fingerprint(tiny / "tiny-resnet")


def test_attention_from_elsewhere_is_refused(tiny: Path, tmp_path: Path):
    """Else the numbers would depend on what is installed, and code would be downloaded."""
    copy = shutil.copytree(tiny / "tiny-llava", tmp_path / "copy")
    said = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(said | {"_attn_implementation": "stranger/kernel"}))
    with pytest.raises(ValueError, match="asks for the attention 'stranger/kernel', which is code from elsewhere"):
        ENCODERS["text"](str(copy), device="cpu", prompts=[QUESTION])


def test_an_output_layer_that_is_neither_stored_nor_tied_is_explained(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-llava", tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    (head,) = (name for name in weights if name.endswith("lm_head.weight"))
    del weights[head]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    (encoder,) = ENCODERS["text"](str(copy), device="cpu", prompts=[QUESTION])
    with pytest.raises(ValueError, match="set tie_word_embeddings to true"):
        encoder.encode(encoder.prepare([np.zeros((48, 48, 3), np.uint8)]))


# -- the tiny checkpoints


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_checkpoint_is_the_same_every_time_and_leaves_the_random_state(tiny: Path, tmp_path: Path, name: str):
    state = torch.random.get_rng_state()
    torch.rand(3)
    torch.random.set_rng_state(state)
    assert fingerprint(build_tiny(name, tmp_path)) == fingerprint(tiny / name)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_tiny_checkpoint_that_is_there_is_kept(tiny: Path):
    before = (tiny / "tiny-llava" / "model.safetensors").stat()
    assert build_tiny("tiny-llava", tiny) == tiny / "tiny-llava"
    assert (tiny / "tiny-llava" / "model.safetensors").stat() == before


def test_an_unknown_tiny_checkpoint_is_refused_with_the_names(tmp_path: Path):
    with pytest.raises(ValueError, match="tiny-blip-vqa, tiny-llava, tiny-resnet"):
        build_tiny("tiny-gpt", tmp_path)


# -- refusals


def test_an_unknown_model_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nobody/nothing: no folder of this name here, .* give its folder"):
        ENCODERS["rgb"]("nobody/nothing", device="cpu")


@pytest.mark.parametrize("path", ["./nothing-here", "/nothing/here", "~/nothing-here", "a/b/c"])
def test_a_missing_folder_is_refused_as_a_folder(path: str):
    with pytest.raises(ValueError, match="no such folder"):
        ENCODERS["rgb"](path, device="cpu")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="not a transformers checkpoint"):
        ENCODERS["rgb"](str(tmp_path), device="cpu")
