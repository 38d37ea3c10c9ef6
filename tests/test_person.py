"""Person images: five crops in time order; boxes from a detector, or the whole frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

from mmcl.pipeline.checkpoint import fingerprint, quiet
from mmcl.pipeline.detector import Detector
from mmcl.pipeline.person import FRAMES, SIZE, WholeFrame, blank_image, from_jpeg, person_image, to_jpeg

WIDTH, HEIGHT = 80, 60
NOBODY, PERSON, CAT = 0, 1, 2


def shades() -> np.ndarray:
    """Frames [5, H, W, 3], each of one grey that grows with time."""
    return np.stack([np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8) for number in range(FRAMES)])


def build(folder: Path, labels: dict[int, str]) -> Path:
    """A detector checkpoint with random weights."""
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
    with torch.random.fork_rng(devices=[]), quiet():
        torch.default_generator.manual_seed(0)
        YolosForObjectDetection(config).save_pretrained(folder)
        YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def yolos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("detector") / "tiny-yolos", {NOBODY: "N/A", PERSON: "person", CAT: "cat"})


@pytest.fixture
def seeing(yolos: Path, monkeypatch: pytest.MonkeyPatch):
    """The tiny detector, and a way to tell it what it sees: per frame, (class, logit, centre x, y, width, height)."""
    detector = Detector(str(yolos), "cpu")

    def sees(*frames: list[tuple[int, float, float, float, float, float]]) -> Detector:
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
        return detector

    return sees


def test_the_person_image_holds_five_crops_from_left_to_right_in_time_order():
    image = person_image(shades(), WholeFrame().find(shades())[0])
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert [image[:, left : left + 96].mean() for left in range(0, SIZE, 96)] == [0, 40, 80, 120, 160]


def test_a_crop_is_the_inside_of_its_box():
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    boxes = np.array([[8 * number, 5, 8 * number + 20, 25] for number in range(FRAMES)])
    for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True):
        frame[top:bottom, left:right] = 200
    assert (person_image(frames, boxes) == 200).all()


def test_a_person_image_survives_its_jpeg():
    image = person_image(
        np.random.default_rng(0).integers(0, 255, (5, 6, 8, 3)).astype(np.uint8), np.array([[0, 0, 8, 6]] * 5)
    )
    back = from_jpeg(to_jpeg(image))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 4
    assert from_jpeg(to_jpeg(blank_image())).std() == 0


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_bytes_that_are_no_jpeg_are_damaged(data: bytes):
    with pytest.raises(ValueError, match=rf"damaged: {len(data)} bytes that are no JPEG"):
        from_jpeg(np.frombuffer(data, np.uint8))


def test_the_whole_frame_finds_nobody():
    boxes, found = WholeFrame().find(shades())
    assert boxes.tolist() == [[0, 0, WIDTH, HEIGHT]] * FRAMES
    assert not found.any()


def test_a_detector_is_known_by_its_folders_name_and_files(yolos: Path):
    settings = Detector(str(yolos), "cpu").settings
    assert settings == {"person": "tiny-yolos", "person_fingerprint": fingerprint(yolos), "person_confidence": 0.25}


def test_a_real_detector_gives_boxes_inside_the_frame(yolos: Path):
    """Loaded by the product's own path, without torchvision; its weights are random, its boxes are anywhere."""
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)
    boxes, found = Detector(str(yolos), "cpu").find(frames)
    assert boxes.shape == (FRAMES, 4)
    assert found.shape == (FRAMES,)
    left, top, right, bottom = boxes.T
    assert ((left >= 0) & (left < right) & (right <= WIDTH)).all()
    assert ((top >= 0) & (top < bottom) & (bottom <= HEIGHT)).all()


def test_the_most_confident_person_counts_and_no_cat(seeing):
    frame = [(CAT, 25.0, 0.5, 0.5, 1, 1), (PERSON, 21.0, 0.25, 0.5, 0.5, 1), (PERSON, 23.0, 0.75, 0.5, 0.5, 0.5)]
    boxes, found = seeing(frame).find(shades()[:1])
    assert boxes.tolist() == [[40, 15, 80, 45]]
    assert found.tolist() == [True]


def test_a_frame_without_a_person_takes_the_box_of_the_nearest_that_has_one(seeing):
    first, last = [(PERSON, 22.0, 0.25, 0.5, 0.5, 1)], [(PERSON, 22.0, 0.75, 0.5, 0.5, 1)]
    boxes, found = seeing(first, [], [], [(CAT, 25.0, 0.5, 0.5, 1, 1)], last).find(shades())
    assert found.tolist() == [True, False, False, False, True]
    assert boxes[:, 0].tolist() == [0, 0, 0, 40, 40]


def test_where_nobody_is_found_at_all_the_whole_frame_is_the_crop(seeing):
    boxes, found = seeing([], [], [], [], []).find(shades())
    assert boxes.tolist() == [[0, 0, WIDTH, HEIGHT]] * FRAMES
    assert not found.any()


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
    boxes, _ = seeing([(PERSON, 22.0, *box)]).find(shades()[:1])
    assert boxes.tolist() == [wanted]
    assert person_image(shades()[:1], boxes).shape == (SIZE, SIZE, 3)


def test_a_detector_that_does_not_know_people_is_refused(tmp_path: Path):
    folder = build(tmp_path / "cats", {0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match=r"cats: none of its 2 classes is called person; give a detector that knows"):
        Detector(str(folder), "cpu")
