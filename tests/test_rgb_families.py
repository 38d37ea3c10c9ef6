"""Every family of RGB models that is named as tested, on a tiny checkpoint of each type, by one contract."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmcl.pipeline.encoders.checkpoint import quiet
from mmcl.pipeline.encoders.encoder import ENCODERS, Columns, Encoder
from mmcl.pipeline.encoders.families import RGB_FAMILIES

SIDE, FRAMES = 32, 4
SPREAD = {"initializer_range": 0.3}  # at the usual 0.02 every image gets nearly the same feature
VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2} | SPREAD
SMALL = VIT | {"image_size": SIDE, "patch_size": 8}
CONVOLUTIONS = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]} | SPREAD
TEXT = VIT | {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
PREDICTOR = {f"pred_{name}": 2 for name in ("num_attention_heads", "num_hidden_layers", "num_mask_tokens")}
JEPA = {"crop_size": SIDE, "patch_size": 8, "frames_per_clip": FRAMES, "num_pooler_layers": 1, "pred_hidden_size": 12}

STEPS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.23, 0.22, 0.23],
}
CROPPED = STEPS | {
    "size": {"shortest_edge": 36},
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
}
RATIO = STEPS | {"size": {"shortest_edge": SIDE}, "crop_pct": 224 / 256}

OF_TIMM = {"input_size": [3, SIDE, SIDE], "interpolation": "bilinear", "crop_pct": 0.88} | {
    "mean": STEPS["image_mean"],
    "std": STEPS["image_std"],
}


def states(model: Any, pixels: Tensor) -> Tensor:
    return getattr(model, "vision_model", model.base_model)(pixels).last_hidden_state


def timm_feature(timm_model: Any, pixels: Tensor) -> Tensor:
    return timm_model.forward_head(timm_model.forward_features(pixels), pre_logits=True)


POOLED: dict[str, Callable[[Any, Tensor], Tensor]] = {  # what a plain model's documentation calls its feature
    "pooler": lambda model, pixels: model.base_model(pixels).pooler_output.flatten(1),
    "own-pooler": lambda model, pixels: model(pixels).pooler_output,
    "embedding": lambda model, pixels: model.get_image_features(pixels).pooler_output,
    "first": lambda model, pixels: states(model, pixels)[:, 0],
    "mean": lambda model, pixels: states(model, pixels).mean(1),
    "patches": lambda model, pixels: states(model, pixels)[:, 1:].mean(1),
    "both": lambda model, pixels: torch.cat([POOLED[name](model, pixels) for name in ("first", "patches")], 1),
    "normed": lambda model, pixels: model.fc_norm(states(model, pixels).mean(1)),
    "attentive": lambda model, pixels: model.pooler(states(model, pixels)),
    "timm": lambda model, pixels: timm_feature(model.timm_model, pixels),
}


@dataclass(frozen=True)
class Built:
    """How a type's tiny checkpoints are built, and the documented feature of the bare model and of the classifier."""

    config: dict[str, Any]
    steps: dict[str, Any]
    processor: str
    bare: str
    classifier: str = ""


RESNET = CONVOLUTIONS | {"layer_type": "basic", "embedding_size": 8}
SWIN = {"image_size": SIDE, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
VIDEO = SMALL | {"num_frames": FRAMES}
CLIP = {"text_config": TEXT, "vision_config": SMALL, "projection_dim": 12}
TIMM = {"architecture": "test_resnet", "pretrained_cfg": OF_TIMM}
BUILT = {
    "resnet": Built(RESNET, RATIO, "ConvNextImageProcessor", "pooler", "pooler"),
    "convnext": Built(CONVOLUTIONS, RATIO, "ConvNextImageProcessor", "pooler", "pooler"),
    "convnextv2": Built(CONVOLUTIONS, RATIO, "ConvNextImageProcessor", "pooler", "pooler"),
    "vit": Built(SMALL, STEPS, "ViTImageProcessor", "pooler", "first"),
    "dinov2": Built(SMALL, CROPPED, "BitImageProcessor", "pooler", "both"),
    "dinov3_vit": Built(SMALL, STEPS, "DINOv3ViTImageProcessorFast", "own-pooler"),
    "dinov3_convnext": Built(CONVOLUTIONS, STEPS, "DINOv3ViTImageProcessorFast", "own-pooler"),
    "clip": Built(CLIP, CROPPED, "CLIPImageProcessor", "embedding", "patches"),
    "siglip": Built({"text_config": TEXT, "vision_config": SMALL}, STEPS, "SiglipImageProcessor", "embedding", "mean"),
    "swin": Built(SWIN | SPREAD, STEPS, "ViTImageProcessor", "pooler", "pooler"),
    "videomae": Built(VIDEO, CROPPED, "VideoMAEImageProcessor", "mean", "normed"),
    "timesformer": Built(VIDEO, CROPPED, "VideoMAEImageProcessor", "mean", "first"),
    "vjepa2": Built(VIT | PREDICTOR | JEPA, CROPPED, "VJEPA2VideoProcessor", "mean", "attentive"),
    "timm_wrapper": Built(TIMM, CROPPED, "", "timm", "timm"),
}
MOVING = ("videomae", "timesformer", "vjepa2")
CASES = [(kind, False) for kind in BUILT] + [(kind, True) for kind, built in BUILT.items() if built.classifier]


@dataclass(frozen=True)
class Case:
    """A tiny checkpoint, loaded by the product's own path, and what it said of four images."""

    kind: str
    built: Built
    network: type[Any]
    folder: Path
    encoder: Encoder
    images: list[np.ndarray]
    columns: Columns

    @property
    def is_classifier(self) -> bool:
        return self.network.__name__.endswith("Classification")

    @property
    def prepared(self) -> Tensor:
        return next(iter(self.encoder.prepare(self.images).values()))

    @property
    def plain(self) -> Any:
        with quiet():
            return self.network.from_pretrained(self.folder).eval()


def seen(folder: Path) -> Encoder:
    return ENCODERS["rgb"](str(folder), device="cpu")[0]


def encoded(encoder: Encoder, images: list[np.ndarray]) -> Columns:
    return encoder.encode(encoder.prepare(images))


def stacked(encoder: Encoder, images: list[np.ndarray]) -> Columns:
    """The columns of the images encoded one at a time."""
    rows = [encoded(encoder, [image]) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def shown(layout: str) -> list[np.ndarray]:
    """Four images of coarse noise, as a layout has them, 54 x 60 px."""
    frames = () if layout == "strip" else (FRAMES,)
    coarse = np.random.default_rng(0).integers(0, 255, (4, *frames, 9, 10, 3), np.uint8)
    return list(coarse.repeat(6, axis=-3).repeat(6, axis=-2))


def save(kind: str, auto: Any, folder: Path) -> type[Any]:
    """A checkpoint with random weights that are the same every time; gives its class."""
    if kind == "timm_wrapper":
        pytest.importorskip("timm", reason="timm models need timm, which brings torchvision", exc_type=ImportError)
    config = transformers.AutoConfig.for_model(kind, **BUILT[kind].config, num_labels=7)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        network = auto.from_config(config).eval()
        network.save_pretrained(folder)
    if processor := BUILT[kind].processor:
        file, key = "preprocessor_config.json", "image_processor_type"
        if processor.endswith("VideoProcessor"):
            file, key = "video_" + file, "video_processor_type"
        (folder / file).write_text(json.dumps(BUILT[kind].steps | {key: processor}))
    return type(network)


def changed(folder: Path, copy: Path, file: str = "config.json", **said: object) -> Path:
    """A copy of a checkpoint with other settings in one of its files."""
    shutil.copytree(folder, copy)
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | said))
    return copy


def without(folder: Path, copy: Path, lost: Callable[[str], bool]) -> Path:
    """A copy of a checkpoint that lacks the first weight whose name is `lost`."""
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    weights.pop(next(name for name in weights if lost(name)))
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case[0] + "-classifier" * case[1])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, is_classifier = request.param
    auto: Any = transformers.AutoModel
    if is_classifier:
        images, videos = transformers.AutoModelForImageClassification, transformers.AutoModelForVideoClassification
        auto = videos if kind in MOVING else images
    folder = tmp_path_factory.mktemp(kind)
    network = save(kind, auto, folder)
    encoder = seen(folder)
    pictures = shown(encoder.layout)
    return Case(kind, BUILT[kind], network, folder, encoder, pictures, encoded(encoder, pictures))


# -- what every family promises


def test_every_type_of_every_family_is_held_by_the_tests_below():
    assert not {kind for family in RGB_FAMILIES for kind in family.types} - set(BUILT)


def test_a_batch_gives_each_image_what_it_gets_alone(case: Case):
    alone = stacked(case.encoder, case.images)
    assert alone.keys() == case.columns.keys()
    for name, column in case.columns.items():
        scale = np.abs(column).max()
        assert np.ptp(column, axis=0).max() > 1e-3 * scale, "the images are told apart"
        np.testing.assert_allclose(column, alone[name], atol=1e-5 * scale)


def test_the_feature_is_the_plain_models_pooled_output(case: Case):
    pooled = POOLED[case.built.classifier if case.is_classifier else case.built.bare]
    with torch.inference_mode():
        wanted = pooled(case.plain, case.prepared)
    assert case.columns["feature"].dtype == np.float32
    np.testing.assert_allclose(case.columns["feature"], wanted, atol=1e-5 * float(wanted.abs().max()))


def test_a_classifiers_logits_are_the_plain_models_and_others_have_none(case: Case):
    if not case.is_classifier:
        assert set(case.columns) == {"feature"}
        return
    with torch.inference_mode():
        wanted = case.plain(case.prepared).logits
    assert case.columns["logits"].shape == (4, 7)
    np.testing.assert_allclose(case.columns["logits"], wanted, atol=1e-5 * float(wanted.abs().max()))


def test_pictures_go_in_as_the_checkpoint_says_to_a_grey_level(case: Case):
    wanted = np.stack([by_hand(image, case.built.steps) for image in case.images])
    np.testing.assert_allclose(case.prepared, wanted, atol=1.01 / 255 / 0.22)


def test_preprocessing_and_its_backend_stand_in_the_recipe(case: Case):
    available = "torchvision" if find_spec("torchvision") else "pil"
    assert case.encoder.settings["backend"] == ("own" if case.kind == "timm_wrapper" else available)
    assert case.encoder.settings["preprocessing"] == type(case.encoder.processor).__name__


def test_a_video_model_asks_for_the_frames_of_its_config_and_the_others_for_a_strip(case: Case):
    assert case.encoder.layout == (f"frames-{FRAMES}" if case.kind in MOVING else "strip")
    listed = {kind: family.layout.split("-")[0] for family in RGB_FAMILIES for kind in family.types}
    assert listed.get(case.kind, "frames") == ("frames" if case.kind in MOVING else "strip")


def test_settings_are_json_that_change_with_weights_config_and_preprocessing(case: Case, tmp_path: Path):
    known = json.dumps(dict(case.encoder.settings))
    assert str(case.folder) not in known
    weights = without(case.folder, tmp_path / "weights" / case.folder.name, lambda name: True)
    config = changed(case.folder, tmp_path / "config" / case.folder.name, dropout_of_nothing=0.5)
    file = next((path.name for path in case.folder.glob("*preprocessor_config.json")), "config.json")
    steps = changed(case.folder, tmp_path / "steps" / case.folder.name, file, do_rescale=False)
    moved = shutil.copytree(case.folder, tmp_path / case.folder.name)
    assert json.dumps(dict(seen(moved).settings)) == known
    assert len({known, *(json.dumps(dict(seen(folder).settings)) for folder in (weights, config, steps))}) == 4


def test_a_checkpoint_with_a_missing_weight_is_refused(case: Case, tmp_path: Path):
    copy = without(case.folder, tmp_path / "copy", lambda name: "pooler" not in name)
    with pytest.raises(ValueError, match="1 weights are missing or of another shape"):
        encoded(seen(copy), case.images)


def test_weights_of_another_class_are_refused(case: Case, tmp_path: Path):
    other = "VivitForVideoClassification" if case.encoder.layout != "strip" else "BeitForImageClassification"
    copy = changed(case.folder, tmp_path / "copy", architectures=[other])
    with pytest.raises(ValueError, match=f"holds a {other}, which loads only as|cannot be loaded with AutoModelFor"):
        seen(copy)


def by_hand(image: np.ndarray, said: dict[str, Any]) -> np.ndarray:
    """The steps of a preprocessing file, done with PIL and numpy: [3, H, W], or of a clip [N, 3, H, W]."""
    if image.ndim == 4:
        return np.stack([by_hand(frame, said) for frame in image])
    height, width = image.shape[:2]
    if edge := said["size"].get("shortest_edge"):
        edge = int(edge / said.get("crop_pct", 1))
        size = (int(edge * width / min(height, width)), int(edge * height / min(height, width)))
    else:
        size = (said["size"]["width"], said["size"]["height"])
    pixels = np.array(Image.fromarray(image).resize(size, Image.Resampling(said["resample"])))
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    pixels = pixels[top : top + SIDE, left : left + SIDE] * said["rescale_factor"]
    return ((pixels - said["image_mean"]) / said["image_std"]).transpose(2, 0, 1)
