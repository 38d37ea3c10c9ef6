"""Person boxes from real tiny detectors of three families, and what counts of what a detector sees."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    ResNetConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from mmcl.pipeline.encoders.checkpoint import fingerprint, quiet
from mmcl.pipeline.videos import detector as module
from mmcl.pipeline.videos.detector import Detector
from mmcl.pipeline.videos.person import Found, Shot

WIDTH, HEIGHT = 80, 60
NOBODY, PERSON, CAT = 0, 1, 2
LABELS = {NOBODY: "N/A", PERSON: "person", CAT: "cat"}
RESNET = {"layer_type": "basic", "embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4}
DETR = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
SIZE = {"shortest_edge": 32, "longest_edge": 48}


def yolos_like(labels: dict[int, str]) -> tuple[Any, Any]:
    config = YolosConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=[32, 48],
        patch_size=8,
        num_detection_tokens=3,
        use_mid_position_embeddings=False,
        id2label=labels,
    )
    return YolosForObjectDetection(config), YolosImageProcessorPil(size=SIZE)


def detr_like(labels: dict[int, str]) -> tuple[Any, Any]:
    backbone = ResNetConfig(**RESNET, out_features=["stage4"])
    config = DetrConfig(
        **DETR, use_timm_backbone=False, backbone=None, backbone_config=backbone, num_queries=3, id2label=labels
    )
    return DetrForObjectDetection(config), DetrImageProcessorPil(size=SIZE)


def rt_detr_like(labels: dict[int, str]) -> tuple[Any, Any]:
    config = RTDetrConfig(
        **DETR,
        backbone_config=RTDetrResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"]),
        encoder_in_channels=[8] * 3,
        encoder_hidden_dim=16,
        decoder_in_channels=[16] * 3,
        decoder_n_points=2,
        num_queries=6,
        num_denoising=0,
        id2label=labels,
    )
    return RTDetrForObjectDetection(config), RTDetrImageProcessorPil(size={"height": 64, "width": 64})


FAMILIES: dict[str, Callable[[dict[int, str]], tuple[Any, Any]]] = {
    "yolos": yolos_like,
    "detr": detr_like,
    "rt-detr": rt_detr_like,
}


def build(family: str, folder: Path, labels: dict[int, str] = LABELS, lean: float = 4.0) -> Path:
    """A checkpoint of random weights, wide enough that pictures get boxes of their own.

    Its class head leans to persons, or away from everything where `lean` is negative.
    """
    with torch.random.fork_rng(devices=[]), quiet(), torch.no_grad():
        torch.default_generator.manual_seed(0)
        model, processor = FAMILIES[family](labels)
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.normal_(0, weight[0].numel() ** -0.5)
            if "class" in name and name.endswith("bias") and len(weight) in (len(labels), len(labels) + 1):
                weight.copy_(torch.tensor([-4.0, lean, -4, 4][: len(weight)]))
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector of each family, called tiny-FAMILY."""
    folder = tmp_path_factory.mktemp("detectors")
    for family in FAMILIES:
        build(family, folder / f"tiny-{family}")
    return folder


@pytest.fixture
def yolos(checkpoints: Path) -> Path:
    return checkpoints / "tiny-yolos"


def shot(name: str = "a", count: int = 5, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Shot:
    """Frames of coarse noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (count, height // 4, width // 4, 3)).astype(np.uint8)
    return Shot(name, coarse.repeat(4, axis=1).repeat(4, axis=2), np.arange(count), count)


def find(detector: Detector, *shots: Shot) -> list[Found]:
    return detector.find(shots, detector.prepare(shots))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_clips_gets_the_boxes_that_each_gets_alone(
    family: str, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
):
    """Clips of two sizes, and forward passes that begin in one clip and end in another; to a pixel of rounding."""
    monkeypatch.setattr(module, "AT_ONCE", 4)
    detector = Detector(str(checkpoints / f"tiny-{family}"), "cpu", {"b": 2})
    shots = [shot("a", 5), shot("b", 3, 48, 64, 1), shot("c", 6, seed=2), shot("d", 1, 48, 64, 3)]
    together = find(detector, *shots)
    assert len({tuple(box) for found in together for box in found.boxes.tolist()}) > 8
    assert all(found.there.any() for found in together)
    for one, found in zip(shots, together, strict=True):
        (alone,) = find(detector, one)
        assert found.boxes.shape == (len(one.frames), 4)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1)
        np.testing.assert_array_equal(found.there, alone.there)


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_are_whole_pixels_inside_the_frame(family: str, checkpoints: Path):
    (found,) = find(Detector(str(checkpoints / f"tiny-{family}"), "cpu", {}), shot())
    assert found.boxes.dtype.kind == "i"
    left, top, right, bottom = found.boxes.T
    assert ((left >= 0) & (left < right) & (right <= WIDTH)).all()
    assert ((top >= 0) & (top < bottom) & (bottom <= HEIGHT)).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_detector_that_sees_nobody_leaves_whole_frames_and_says_so(family: str, tmp_path: Path):
    (found,) = find(Detector(str(build(family, tmp_path / family, lean=-90)), "cpu", {}), shot())
    assert found.boxes.tolist() == [[0, 0, WIDTH, HEIGHT]] * 5
    assert found.there.tolist() == [False] * 5


def test_frames_are_looked_at_so_many_at_once_and_only_with_their_like(yolos: Path):
    """80 frames of one size and 3 of another: memory stays bounded, and none is padded to another's size."""
    shots = [shot(f"{number}", 20, seed=number) for number in range(4)] + [shot("small", 3, 48, 64)]
    batches = Detector(str(yolos), "cpu", {}).prepare(shots)
    assert [len(batch.places) for batch in batches] == [module.AT_ONCE] * 5 + [3]
    assert [batch.size for batch in batches] == [(HEIGHT, WIDTH)] * 5 + [(48, 64)]
    assert all(len(batch.inputs["pixel_values"]) == len(batch.places) for batch in batches)
    assert [place for batch in batches for place in batch.places] == [
        (number, frame) for number, one in enumerate(shots) for frame in range(len(one.frames))
    ]


def test_the_recipe_says_everything_that_changes_the_boxes(yolos: Path):
    assert Detector(str(yolos), "cpu", {"a": 1}).settings == {
        "person": "tiny-yolos",
        "person_engine": "transformers",
        "person_fingerprint": fingerprint(yolos),
        "person_architecture": "YolosForObjectDetection",
        "person_preprocessing": "YolosImageProcessorPil",
        "person_backend": "pil",
        "person_dtype": "float32",
        "person_confidence": 0.25,
        "person_rule": 1,
        "person_pairs": "",
    }


def test_the_recipe_follows_the_clips_of_two_people(yolos: Path):
    def pairs(**people: int) -> str:
        return Detector(str(yolos), "cpu", people).settings["person_pairs"]

    assert len({pairs(a=1), pairs(a=2), pairs(b=2), pairs(a=2, b=2)}) == 4
    assert pairs(a=1, b=2) == pairs(b=3)


def test_the_weights_are_loaded_when_somebody_is_searched_for(yolos: Path, tmp_path: Path):
    """A cache that is complete is recognised, and frames are preprocessed, by the small files alone."""
    folder = tmp_path / "tiny-yolos"
    shutil.copytree(yolos, folder)
    (folder / "model.safetensors").unlink()
    detector = Detector(str(folder), "cpu", {})
    assert detector.settings["person_architecture"] == "YolosForObjectDetection"
    prepared = detector.prepare([shot()])
    with pytest.raises(ValueError, match=r"tiny-yolos: this yolos cannot be loaded with AutoModelForObjectDetection"):
        detector.find([shot()], prepared)


def test_the_device_of_large_models_is_one_device_for_a_detector(yolos: Path, monkeypatch: pytest.MonkeyPatch):
    """What spreads a large language model over all accelerators takes the usual one here."""
    monkeypatch.setattr(module, "find_device", lambda asked, shard: "cpu" if asked else "meta")
    assert Detector(str(yolos), "auto", {})._model.device.type == "meta"
    assert Detector(str(yolos), "cpu", {})._model.device.type == "cpu"


def test_a_model_that_is_no_detector_is_refused_at_once(models: Path):
    with pytest.raises(ValueError, match="tiny-resnet: this resnet cannot be loaded with AutoModelForObjectDetection"):
        Detector(str(models / "tiny-resnet"), "cpu", {})


def test_a_detector_that_does_not_know_people_is_refused_at_once(tmp_path: Path):
    folder = build("yolos", tmp_path / "cats", {0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match=r"cats: none of its 2 classes is called person; give a detector that knows"):
        Detector(str(folder), "cpu", {})


def test_a_detector_without_preprocessing_is_refused_at_once(yolos: Path, tmp_path: Path):
    folder = tmp_path / "bare"
    shutil.copytree(yolos, folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="bare: this yolos has no image preprocessing"):
        Detector(str(folder), "cpu", {})


Thing = tuple[int, float, float, float, float, float]  # class, logit, centre x, y, width, height (parts of the frame)


@pytest.fixture
def seeing(yolos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Found]:
    """What is found in a clip, "one" or "two" by its people, in whose frames the detector sees these things."""
    detector = Detector(str(yolos), "cpu", {"two": 2})

    def found(*frames: Sequence[Thing], clip: str = "one") -> Found:
        logits = torch.full((len(frames), 3, 4), -20.0)
        logits[:, :, 3] = 20  # "no object"
        boxes = torch.full((len(frames), 3, 4), 0.5)
        for frame, things in enumerate(frames):
            for token, (label, logit, *box) in enumerate(things):
                logits[frame, token, label] = logit
                boxes[frame, token] = torch.tensor(box)

        def forward(**inputs: torch.Tensor) -> object:
            assert len(inputs["pixel_values"]) == len(frames)
            return type("Output", (), {"logits": logits, "pred_boxes": boxes})()

        monkeypatch.setattr(detector._model, "forward", forward)
        return find(detector, shot(clip, len(frames)))[0]

    return found


LEFT, RIGHT, SMALL = (0.25, 0.5, 0.5, 1), (0.75, 0.5, 0.5, 0.5), (0.1, 0.1, 0.1, 0.1)


def test_the_most_confident_person_counts_and_no_cat(seeing):
    boxes, there = seeing([(CAT, 25.0, 0.5, 0.5, 1, 1), (PERSON, 21.0, *LEFT), (PERSON, 23.0, *RIGHT)])
    assert boxes.tolist() == [[40, 15, 80, 45]]
    assert there.tolist() == [True]


def test_whoever_is_less_than_a_quarter_sure_to_be_a_person_is_nobody(seeing):
    def sure(part: float) -> list[Thing]:
        return [(PERSON, 20 + float(np.log(part / (1 - part))), *LEFT)]

    assert seeing(sure(0.27), sure(0.23)).there.tolist() == [True, False]


def test_of_two_people_the_union_of_the_two_most_confident_counts(seeing):
    frame = [(PERSON, 21.0, *SMALL), (PERSON, 22.0, *LEFT), (PERSON, 23.0, *RIGHT)]
    assert seeing(frame, clip="two").boxes.tolist() == [[0, 0, 80, 60]]
    frame[1] = (PERSON, 22.0, 0.65, 0.5, 0.1, 0.9)
    assert seeing(frame, clip="two").boxes.tolist() == [[40, 3, 80, 57]]


def test_of_two_people_the_one_who_is_seen_counts_alone(seeing):
    boxes, there = seeing([(PERSON, 23.0, *RIGHT), (CAT, 25.0, *LEFT)], clip="two")
    assert boxes.tolist() == [[40, 15, 80, 45]]
    assert there.tolist() == [True]


def test_one_person_seen_twice_is_not_two(seeing):
    """The second box is the first a little moved; the third, less sure, shows somebody else."""
    again = (0.74, 0.5, 0.5, 0.5)
    frame = [(PERSON, 23.0, *RIGHT), (PERSON, 22.0, *again), (PERSON, 21.0, *SMALL)]
    assert seeing(frame, clip="two").boxes.tolist() == [[4, 3, 80, 45]]
    assert seeing(frame[:2], clip="two").boxes.tolist() == [[40, 15, 80, 45]]


def test_a_frame_without_a_person_takes_the_box_of_the_nearest_that_has_one(seeing):
    first, last = [(PERSON, 22.0, *LEFT)], [(PERSON, 22.0, *RIGHT)]
    boxes, there = seeing(first, [], [], [(CAT, 25.0, 0.5, 0.5, 1, 1)], last)
    assert there.tolist() == [True, False, False, False, True]
    assert boxes[:, 0].tolist() == [0, 0, 0, 40, 40]


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0.5, 0.5, 3, 3), [0, 0, 80, 60]),
        ((1.5, 1.5, 0.1, 0.1), [79, 59, 80, 60]),
        ((0.5, 0.5, 0, 0), [40, 30, 41, 31]),
    ],
    ids=["larger than the frame", "outside it", "of no size"],
)
def test_an_odd_box_still_leaves_a_crop(seeing, box: tuple, wanted: list[int]):
    assert seeing([(PERSON, 22.0, *box)]).boxes.tolist() == [wanted]
