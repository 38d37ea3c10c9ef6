"""Person images in every layout, and boxes around the skeleton or of the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.pipeline.videos.person import Shot, SkeletonBoxes, WholeFrame, from_jpegs, image_layout, to_jpegs

WIDTH, HEIGHT = 80, 60
WIDE, HIGH = 128, 64  # of a shot's frames: powers of two, whose shares are exact
STRIP, SINGLE, FRAMES = image_layout("strip"), image_layout("single"), image_layout("frames-4")
NAN = float("nan")


def shades(count: int = 5) -> np.ndarray:
    """Frames [n, H, W, 3], each of one grey that grows with time."""
    return np.stack([np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8) for number in range(count)])


def shot(name: str = "a", index: Sequence[int] = range(5), total: int = 5) -> Shot:
    return Shot(name, np.zeros((len(index), HIGH, WIDE, 3), np.uint8), np.array(index), total)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, HEIGHT, WIDTH, 3)).astype(np.uint8)


def bounds(image: np.ndarray, above: int) -> list[int]:
    """Left, top, right, bottom of the pixels that are brighter than a grey value."""
    rows, columns = np.nonzero(image[..., 0] > above)
    return [int(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def test_a_strip_holds_five_crops_from_left_to_right_in_time_order():
    frames = shades()
    image = STRIP.compose(frames, np.array([[0, 0, WIDTH, HEIGHT]] * 5))
    assert image.shape == (480, 480, 3)
    assert image.dtype == np.uint8
    assert [image[:, left : left + 96].mean() for left in range(0, 480, 96)] == [0, 40, 80, 120, 160]


@pytest.mark.parametrize("layout", [STRIP, SINGLE, FRAMES], ids=lambda layout: layout.name)
def test_a_crop_is_the_inside_of_its_box(layout):
    frames = np.zeros((layout.frames, HEIGHT, WIDTH, 3), np.uint8)
    boxes = np.array([[20, 5, 40, 25]] * layout.frames)
    frames[:, 5:25, 20:40] = 200
    assert (layout.compose(frames, boxes) == 200).all()


def test_a_strip_takes_each_frames_own_box():
    frames = np.zeros((5, HEIGHT, WIDTH, 3), np.uint8)
    boxes = np.array([[8 * number, 5, 8 * number + 20, 25] for number in range(5)])
    for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True):
        frame[top:bottom, left:right] = 200
    assert (STRIP.compose(frames, boxes) == 200).all()


def test_the_recipe_of_a_strip_is_what_it_always_was():
    """Person images that users have made stay in use."""
    assert STRIP.settings == {
        "layout": "strip",
        "frames": 5,
        "sampling": "bin-centres",
        "size": 480,
        "resize": "cv2-area",
        "jpeg_quality": 95,
        "version": 1,
    }


def test_a_recipe_says_which_layout_and_how_many_frames():
    said = [image_layout(name).settings for name in ("single", "frames-2", "frames-64")]
    assert [(one["layout"], one["frames"], one["size"]) for one in said] == [
        ("single", 1, 480),
        ("frames-2", 2, 256),
        ("frames-64", 64, 256),
    ]


@pytest.mark.parametrize("name", ["film", "", "frames", "frames-1", "frames-65", "frames-016", "frames-1O", "strip\n"])
def test_another_layout_is_refused_with_those_that_are_there(name: str):
    with pytest.raises(ValueError, match=r"no person-image layout .*; there are strip, single and frames-N, N from 2"):
        image_layout(name)


def test_a_single_picture_keeps_the_proportions_of_its_box():
    """A box half as wide as high: the square around it shows as much again of what is beside it."""
    frames = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    frames[0, 10:50, 30:50] = 200
    image = SINGLE.compose(frames, np.array([[30, 10, 50, 50]]))
    assert bounds(image, 100) == [120, 0, 360, 480]


@pytest.mark.parametrize(
    ("box", "seen"),
    [([0, 10, 10, 50], [0, 10, 40, 50]), ([70, 20, 80, 60], [40, 20, 80, 60]), ([30, 0, 70, 10], [30, 0, 70, 40])],
    ids=["left edge", "lower right corner", "upper edge"],
)
def test_at_the_edge_the_square_is_moved_into_the_picture(box: list[int], seen: list[int]):
    frames = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = seen
    frames[0, top:bottom, left:right] = 150
    frames[0, top + 10 : bottom - 10, left + 10 : right - 10] = 250
    image = SINGLE.compose(frames, np.array([box]))
    assert image.min() > 100
    assert bounds(image, 200) == [120, 120, 360, 360]


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 60)], ids=["wide", "high"])
def test_a_whole_frame_is_letterboxed_in_grey(height: int, width: int):
    frames = np.full((1, height, width, 3), 255, np.uint8)
    image = SINGLE.compose(frames, np.array([[0, 0, width, height]]))
    high = image if width > height else image.swapaxes(0, 1)
    assert (high[:60] == 127).all()
    assert (high[60:420] == 255).all()
    assert (high[420:] == 127).all()


def test_what_lies_outside_the_picture_is_grey_and_nothing_is_stretched():
    """A person higher than the picture is wide."""
    frames = np.full((1, 100, 40, 3), 255, np.uint8)
    image = SINGLE.compose(frames, np.array([[5, 10, 35, 90]]))
    assert bounds(image, 200) == [120, 0, 360, 480]
    assert (image[:, :120] == 127).all()
    assert (image[:, 360:] == 127).all()


def test_frames_are_cut_by_one_box_for_all_so_that_the_motion_stays():
    """A thing that stands still stays where it is though the boxes wander, and all boxes are seen."""
    frames = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, 20:30, 30:40] = 200
    boxes = np.array([[8 + 8 * number, 10, 24 + 8 * number, 50] for number in (2, 0, 3, 1)])
    image = FRAMES.compose(frames, boxes)
    assert image.shape == (4, 256, 256, 3)
    assert [bounds(picture, 100) for picture in image] == [[141, 64, 205, 128]] * 4


@pytest.mark.parametrize("layout", [STRIP, SINGLE, FRAMES], ids=lambda layout: layout.name)
def test_a_blank_image_is_grey_and_of_the_shape_of_the_others(layout):
    image = layout.compose(noise(layout.frames), np.array([[0, 0, 8, 6]] * layout.frames))
    assert layout.blank().shape == image.shape
    assert layout.blank().dtype == image.dtype
    assert (layout.blank() == 127).all()


@pytest.mark.parametrize("layout", [STRIP, SINGLE, FRAMES], ids=lambda layout: layout.name)
def test_an_image_survives_its_jpegs(layout):
    image = layout.compose(noise(layout.frames), np.array([[0, 0, 8, 6]] * layout.frames))
    data, ends = to_jpegs(image)
    assert (data.dtype, ends.dtype) == (np.uint8, np.int32)
    assert ends[-1] == len(data)
    assert len(ends) == (4 if layout is FRAMES else 1)
    back = from_jpegs(data, ends)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < 4
    assert from_jpegs(*to_jpegs(layout.blank())).std() == 0


def test_frames_come_back_in_their_order():
    image = np.stack([np.full((16, 16, 3), 60 * number, np.uint8) for number in range(4)])
    assert from_jpegs(*to_jpegs(image)).mean(axis=(1, 2, 3)).round().tolist() == [0, 60, 120, 180]


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_bytes_that_are_no_jpeg_are_damaged(data: bytes):
    with pytest.raises(ValueError, match=rf"damaged: {len(data)} bytes that are no JPEG"):
        from_jpegs(np.frombuffer(data, np.uint8), np.array([len(data)], np.int32))


def test_one_damaged_picture_of_several_damages_the_image():
    data, ends = to_jpegs(shades(3))
    data[ends[0] : ends[1]] = 0
    with pytest.raises(ValueError, match=rf"damaged: {ends[1] - ends[0]} bytes that are no JPEG"):
        from_jpegs(data, ends)


def test_pictures_that_are_not_of_one_size_are_damaged():
    (small, first), (large, second) = to_jpegs(noise(1)[0, :16]), to_jpegs(noise(1)[0])
    with pytest.raises(ValueError, match="damaged: 2 pictures, wanted some, all of one size"):
        from_jpegs(np.concatenate([small, large]), np.array([*first, first[0] + second[0]], np.int32))
    with pytest.raises(ValueError, match="damaged: 0 pictures"):
        from_jpegs(small, np.array([], np.int32))


def test_the_whole_frame_finds_nobody():
    (found,) = WholeFrame().find([shot()], WholeFrame().prepare([shot()]))
    assert found.boxes.tolist() == [[0, 0, WIDE, HIGH]] * 5
    assert not found.there.any()


def skeletons(*clips: list) -> Skeletons:
    """Clips "a", "b", ... of joints at these pixels of a shot, [bodies, frames, 2 joints, 2] each."""
    points = [(np.array(clip) / (WIDE, HIGH)).astype(np.float32) for clip in clips]
    flat = [clip.reshape(-1, 2, 2) for clip in points]
    return Skeletons(
        dataset="seen",
        classes=("wave",),
        layout=Layout("two", ("hip", "head"), ((1, 0),), 0),
        names=tuple("abc"[: len(clips)]),
        labels=np.zeros(len(clips), np.int64),
        bodies=np.array([len(clip) for clip in points]),
        joints=Ragged.of([np.zeros((len(clip), 2, 3), np.float32) for clip in flat]),
        splits={"all": Split(np.full(len(clips), TRAIN, np.int8))},
        image_points=Ragged.of(flat),
    )


def boxes_of(clip: list, **of: object) -> tuple[list, list]:
    """What the skeleton says of a shot of the one clip: boxes, and who is there."""
    search, one = SkeletonBoxes(skeletons(clip)), replace(shot(), **of)
    (found,) = search.find([one], search.prepare([one]))
    return found.boxes.tolist(), found.there.tolist()


def at(left: float, top: float) -> list:
    """A frame with two joints, 10 pixels apart in x and 20 in y."""
    return [[left, top], [left + 10, top + 20]]


NOWHERE = [[NAN, NAN], [0, 0]]


def test_the_skeletons_box_holds_all_joints_and_a_margin():
    """15 % of the longer side, here 20 pixels, on every side."""
    assert boxes_of([[at(30, 20)] * 5]) == ([[27, 17, 43, 43]] * 5, [True] * 5)


def test_a_skeletons_box_ends_at_the_frame():
    assert boxes_of([[at(0, 43)] * 5])[0] == [[0, 40, 13, HIGH]] * 5


@pytest.mark.parametrize(("times", "width", "height"), [(0.5, 64, 32), (4, 512, 256)])
def test_a_smaller_or_larger_copy_of_the_video_has_the_box_in_the_same_place(times: float, width: int, height: int):
    frames = np.zeros((5, height, width, 3), np.uint8)
    clip = [[at(30, 20)] * 5, [at(50, 24)] * 5]
    as_it_was, in_the_copy = np.array(boxes_of(clip)[0]), np.array(boxes_of(clip, frames=frames)[0])
    assert np.abs(in_the_copy - times * as_it_was).max() <= times


def test_of_two_bodies_the_union_counts():
    assert boxes_of([[at(10, 10)] * 5, [at(30, 30)] * 5])[0] == [[4, 4, 46, 56]] * 5


@pytest.mark.parametrize(
    "unknown",
    [[NAN, NAN], [NAN, 30], [0, 0], [-5, 30], [30, 90], [WIDE, 30], [30, HIGH], [np.inf, 3], [30, -np.inf]],
    ids=str,
)
def test_a_joint_that_is_unknown_or_outside_the_picture_is_not_counted(unknown: list):
    """NTU RGB+D has such. A second body has it, and adds nothing but its other joint, which the first holds."""
    assert boxes_of([[at(30, 20)] * 5, [[unknown, [35, 30]]] * 5]) == ([[27, 17, 43, 43]] * 5, [True] * 5)


def test_a_frame_of_the_video_takes_the_skeletons_frame_of_the_same_moment():
    """A video of 20 frames and a skeleton of 10: frame 8 is the skeleton's frame 4, the last one its last."""
    clip = [[at(3 + 5 * moment, 20) for moment in range(10)]]
    boxes, _ = boxes_of(clip, index=np.array([0, 1, 8, 9, 19]), total=20)
    assert [left for left, *_ in boxes] == [0, 0, 20, 20, 45]


def test_a_skeleton_longer_than_the_video_is_met_too():
    clip = [[at(3 + 5 * moment, 20) for moment in range(10)]]
    assert [left for left, *_ in boxes_of(clip, index=np.arange(5), total=5)[0]] == [0, 10, 20, 30, 40]


def test_a_frame_without_joints_takes_the_box_of_the_nearest_moment_that_has_some():
    """Moments between the frames that were asked for count too."""
    clip = [[NOWHERE, NOWHERE, at(3, 20), NOWHERE, NOWHERE, at(43, 20)]]
    boxes, there = boxes_of(clip, index=np.array([0, 3, 4, 5]), total=6)
    assert [left for left, *_ in boxes] == [0, 0, 40, 40]
    assert there == [False, False, False, True]


def test_a_clip_without_any_joint_keeps_whole_frames_and_says_so():
    assert boxes_of([[NOWHERE] * 3]) == ([[0, 0, WIDE, HIGH]] * 5, [False] * 5)


def test_each_shot_takes_its_own_clips_points():
    search = SkeletonBoxes(skeletons([[at(10, 20)] * 4], [[at(40, 20)] * 2]))
    shots = [shot("b"), shot("a")]
    assert [found.boxes[0, 0] for found in search.find(shots, search.prepare(shots))] == [37, 7]


def test_the_recipe_of_skeleton_boxes_follows_the_points():
    before, after = skeletons([[at(10, 20)] * 4]), skeletons([[at(10, 20)] * 3 + [at(10, 21)]])
    settings = SkeletonBoxes(before).settings
    assert settings["person"] == "skeleton"
    assert settings["person_margin"] == 0.15
    assert settings["person_rule"] == 2
    assert settings.keys() == {"person", "person_margin", "person_rule", "person_points"}
    assert settings == SkeletonBoxes(skeletons([[at(10, 20)] * 4])).settings
    assert settings == SkeletonBoxes(replace(before, classes=("drink",))).settings
    assert settings != SkeletonBoxes(after).settings
    assert settings != SkeletonBoxes(skeletons([[at(10, 20)] * 2] * 2)).settings


def test_skeletons_that_are_not_known_in_the_picture_give_no_boxes():
    with pytest.raises(ValueError, match="seen: where its joints are in the picture is not known; give a detector"):
        SkeletonBoxes(replace(skeletons([[at(10, 20)]]), image_points=None))
