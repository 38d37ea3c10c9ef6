"""Vision and video models: when they are loaded, the settings they are known by, what they refuse, and timm's."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from mmcl.pipeline.encoders.checkpoint import Checkpoint, quiet
from mmcl.pipeline.encoders.encoder import ENCODERS, Columns, Encoder
from mmcl.pipeline.encoders.families import KNOWN_NOT_TO_WORK

PICTURES = list(np.random.default_rng(0).integers(0, 255, (4, 54, 60, 3), np.uint8))
without_torchvision = pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")


def seen(folder: Path) -> Encoder:
    return ENCODERS["rgb"](str(folder), device="cpu")[0]


def encoded(encoder: Encoder) -> Columns:
    return encoder.encode(encoder.prepare(PICTURES))


def said(folder: Path, config: dict[str, Any], file: str = "", **preprocessing: Any) -> Path:
    """A checkpoint that has all but its weights."""
    (folder / "config.json").write_text(json.dumps(config))
    if file:
        (folder / file).write_text(json.dumps(preprocessing))
    return folder


def test_settings_and_inputs_are_known_without_loading_weights(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: pytest.fail("weights were loaded"))
    encoder = seen(models / "tiny-resnet")
    assert encoder.prepare(PICTURES)["pixel_values"].shape == (4, 3, 64, 64)
    settings = dict(encoder.settings)
    assert len(settings.pop("fingerprint")) == 64
    assert settings == {
        "engine": "transformers",
        "model": "tiny-resnet",
        "architecture": "ResNetForImageClassification",
        "preprocessing": "ViTImageProcessor" if find_spec("torchvision") else "ViTImageProcessorPil",
        "backend": "torchvision" if find_spec("torchvision") else "pil",
        "version": 1,
        "dtype": "float32",
    }


def test_weights_are_loaded_once(models: Path, monkeypatch: pytest.MonkeyPatch):
    calls, load = [], Checkpoint.load
    monkeypatch.setattr(Checkpoint, "load", lambda *args, **kwargs: calls.append(1) or load(*args, **kwargs))
    encoder = seen(models / "tiny-resnet")
    encoded(encoder), encoded(encoder)
    assert calls == [1]


def test_the_device_auto_is_one_device(models: Path):
    (encoder,) = ENCODERS["rgb"](str(models / "tiny-resnet"), device="auto")
    assert encoded(encoder)["feature"].shape == (4, 64)


def test_a_vit_without_pooler_weights_gives_its_class_token(tmp_path: Path):
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    network = transformers.ViTModel(
        transformers.ViTConfig(**small, image_size=32, patch_size=8), add_pooling_layer=False
    )
    with quiet():
        network.eval().save_pretrained(tmp_path)
        transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = seen(tmp_path)
    with torch.inference_mode():
        states = network(**encoder.prepare(PICTURES)).last_hidden_state
    assert list(encoded(encoder)) == ["feature"]
    np.testing.assert_allclose(encoded(encoder)["feature"], states[:, 0], atol=1e-5)


def test_weights_of_another_shape_are_refused(models: Path, tmp_path: Path):
    copy = shutil.copytree(models / "tiny-resnet", tmp_path / "resnet")
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"classifier.1.bias": torch.zeros(5)}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"another shape, such as classifier\.1\.bias"):
        encoded(seen(copy))


def test_a_torn_download_is_refused(models: Path, tmp_path: Path):
    copy = shutil.copytree(models / "tiny-resnet", tmp_path / "resnet")
    (copy / "model.safetensors").write_bytes((models / "tiny-resnet" / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="this resnet cannot be loaded"):
        encoded(seen(copy))


def test_a_folder_without_preprocessing_is_refused(models: Path, tmp_path: Path):
    copy = shutil.copytree(models / "tiny-resnet", tmp_path / "resnet")
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="this resnet has no image preprocessing"):
        seen(copy)


@pytest.mark.parametrize("kind", [kind for kind, _ in KNOWN_NOT_TO_WORK])
def test_what_is_known_not_to_work_is_refused(tmp_path: Path, kind: str):
    with pytest.raises(ValueError, match=f"{kind} is known not to work: {dict(KNOWN_NOT_TO_WORK)[kind]}"):
        seen(said(tmp_path, {"model_type": kind}))


# -- preprocessing that transformers has for torchvision alone


@without_torchvision
def test_a_type_that_needs_torchvision_is_refused_with_that_reason(tmp_path: Path):
    file = "video_preprocessor_config.json"
    said(tmp_path, {"model_type": "vivit"}, file, video_processor_type="VivitVideoProcessor")
    with pytest.raises(ValueError, match=r"its VivitVideoProcessor needs torchvision; pip install 'mmcl\[vision\]'"):
        seen(tmp_path)


@without_torchvision
def test_preprocessing_that_is_not_said_is_not_guessed(tmp_path: Path):
    file = "video_preprocessor_config.json"
    said(tmp_path, {"model_type": "vjepa2"}, file, video_processor_type="VJEPA2VideoProcessor", do_resize=True)
    with pytest.raises(ValueError, match=r"its VJEPA2VideoProcessor says no size, .*; to guess as .* pip install"):
        seen(tmp_path)


def test_a_video_model_that_says_no_number_of_frames_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="does not say of how many frames"):
        seen(said(tmp_path, {"model_type": "vjepa2", "frames_per_clip": 0}))


# -- timm

# config.json as it is on the hub, and as transformers saves it
HUB = {"architecture": "inception_v3", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 299, 299]}}
OWN = HUB | {"model_type": "timm_wrapper", "num_classes": 2, "label_names": ["a", "b"]}


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
@pytest.mark.parametrize("config", [HUB, OWN], ids=["hub", "transformers"])
def test_a_model_that_needs_a_package_is_refused_with_what_to_install(tmp_path: Path, config: dict[str, Any]):
    said(tmp_path, config)
    with pytest.raises(ValueError, match=r"needs timm; pip install 'mmcl\[timm\]'"):
        seen(tmp_path)


@pytest.mark.parametrize(("name", "classes"), [("test_resnet", 7), ("test_vit", 0), ("inception_v3", 1000)])
def test_a_checkpoint_that_timm_saved_gives_what_timm_gives(tmp_path: Path, name: str, classes: int):
    timm = pytest.importorskip("timm", reason="timm models need timm, which brings torchvision", exc_type=ImportError)
    plain = timm.create_model(name, num_classes=classes).eval()
    timm.models.save_for_hf(plain, tmp_path, safe_serialization=True)
    seeing = timm.data.create_transform(**timm.data.resolve_data_config({}, model=plain))
    pixels = torch.stack([seeing(Image.fromarray(image)) for image in PICTURES])
    columns = encoded(seen(tmp_path))
    with torch.inference_mode():
        states = plain.forward_features(pixels)
        wanted = {"feature": plain.forward_head(states, pre_logits=True)} | (
            {"logits": plain.forward_head(states)} if classes else {}
        )
    assert columns.keys() == wanted.keys()
    for column in columns:
        np.testing.assert_allclose(
            columns[column], wanted[column], rtol=1e-5, atol=1e-5 * np.abs(columns[column]).max()
        )
