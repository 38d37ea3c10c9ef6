"""`mmcl data show`: a GIF that moves, limbs in their colours, the person image in the strip; no name crashes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mmcl.cache.mapped import Ragged
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.pipeline.data_commands import data as commands
from mmcl.pipeline.pictures.moving import FIELD, MOST_FRAMES, PADDING, draw_frames, draw_strip, read_clip, show_clip
from mmcl.pipeline.pictures.pose import PAINTS, draw_pose, fit, front, grid_step
from mmcl.pipeline.pictures.sheet import CARD
from mmcl.pipeline.videos.picture import to_jpegs

# a cross: head up, left hand and right hand, two feet
CROSS = Layout(
    "cross",
    ("hip", "head", "left hand", "right hand", "left foot", "right foot"),
    ((1, 0), (2, 0), (3, 0), (4, 0), (5, 0)),
    0,
    ((2, 3), (4, 5)),
)
POSE = np.array([[0, 0, 3], [0, 0.8, 3], [0.7, 0.2, 3], [-0.7, 0.2, 3], [0.3, -0.9, 3], [-0.3, -0.9, 3]], np.float32)
STRANGE = ["\x1b[31mred\x07", "歩く مرحبا 😀 \u202eevil", "x" * 500, "a\nb\tc", "[bold]x"]


def crosses(clips: Sequence[np.ndarray], *, names: Sequence[str] = (), coordinates: str = "metres") -> Skeletons:
    """Clips [bodies, frames, 6, 3] of crosses."""
    names = tuple(names) or tuple(f"clip-{number}" for number in range(len(clips)))
    return Skeletons(
        *("crosses", ("wave",), CROSS, names, np.zeros(len(clips), int), np.array([len(clip) for clip in clips])),
        Ragged.of([clip.reshape(-1, 6, 3).astype(np.float32) for clip in clips]),
        {"all": Split(np.full(len(clips), TRAIN, np.int8))},
        coordinates=coordinates,
    )


def rising(frames: int, step: float = 0.05) -> np.ndarray:
    """One body whose left hand goes up: [1, frames, 6, 3]."""
    clip = np.tile(POSE, (frames, 1, 1))
    clip[:, 2, 1] += step * np.arange(frames)
    return clip[None]


def write(folder: Path, skeletons: Skeletons) -> Path:
    folder.mkdir(exist_ok=True)
    write_skeletons(folder / "skeletons.h5", skeletons)
    return folder


def where(image: np.ndarray, colour: tuple[int, int, int], within: int = 12) -> np.ndarray:
    """The middle x and y of what has this colour; it has to be there."""
    found = np.argwhere((np.abs(image.astype(int) - colour) <= within).all(-1))
    assert len(found), f"nothing is {colour}"
    return found.mean(0)[::-1]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def drawn(pose: np.ndarray, coordinates: str = "metres") -> np.ndarray:
    points = front(pose, coordinates)
    return pixels(draw_pose(points, CROSS, fit(points, 200, 200)))


def test_left_limbs_have_the_left_colour_where_they_are_and_right_ones_theirs():
    image, paint = drawn(POSE[None]), PAINTS[0]
    left, right, head = (where(image, colour) for colour in (paint.left, paint.right, paint.middle))
    assert left[0] > 110 > 90 > right[0]
    assert head[1] < 90


def test_up_is_up_in_metres_and_down_in_a_picture():
    assert where(drawn(POSE[None]), PAINTS[0].middle)[1] < 100
    assert where(drawn(POSE[None], "image"), PAINTS[0].middle)[1] > 100


def test_bodies_have_colours_of_their_own():
    image = drawn(POSE + np.array([[[-1.5, 0, 0]], [[1.5, 0, 0]]]))
    assert where(image, PAINTS[0].left)[0] < 100 < where(image, PAINTS[1].left)[0]
    assert where(image, PAINTS[0].right)[0] < 100 < where(image, PAINTS[1].right)[0]


def test_joints_that_are_not_there_are_not_drawn():
    for nothing in (0, np.nan, np.inf, (np.inf, -np.inf, 0)):
        pose = POSE.copy()
        pose[2] = nothing
        pose[4] = nothing
        image = drawn(pose[None])
        where(image, PAINTS[0].right)
        with pytest.raises(AssertionError, match="nothing is"):
            where(image, PAINTS[0].left)
    assert (drawn(np.zeros((1, 6, 3))) == CARD).all()


def test_numbers_as_large_as_there_are_draw_as_any_others():
    assert (drawn(POSE[None] * np.float32(1e38)) == drawn(POSE[None])).all()


def test_lines_of_a_grid_are_a_handful_at_round_distances():
    points = front(POSE, "metres")
    for scale, step in ((1, 0.5), (1000, 500), (0.01, 0.005)):
        assert grid_step(fit(points * scale, 400, 400)) == pytest.approx(step)


def test_a_gif_has_the_clips_frames_at_its_rate_and_moves(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(20)]))
    assert show_clip(data, "clip-0", tmp_path / "new" / "clip.gif") == []
    with Image.open(tmp_path / "new" / "clip.gif") as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"]) == ("GIF", 20, 0)
        hands, feet = [], []
        for frame in (0, 10, 19):
            gif.seek(frame)
            assert 30 <= gif.info["duration"] <= 40
            image = pixels(gif)[70:-60]
            hands.append(where(image[: len(image) // 2], PAINTS[0].left, 30)[1])
            feet.append(where(image[-60:], PAINTS[0].left, 30)[1])
    assert hands[0] > hands[1] > hands[2]
    assert np.ptp(feet) < 1  # the axes stay where they are


def test_of_a_long_clip_every_second_or_third_frame_is_shown_at_the_same_speed(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(MOST_FRAMES * 2 + 1, 0.001)]))
    show_clip(data, "clip-0", tmp_path / "clip.gif")
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == 101
        assert gif.info["duration"] == 100


def test_a_clip_of_one_frame_or_of_nobody_is_drawn(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(1), np.zeros((2, 3, 6, 3)), np.full((1, 2, 6, 3), np.nan)]))
    for name, frames in (("clip-0", 1), ("clip-1", 3), ("clip-2", 2)):
        show_clip(data, name, tmp_path / "clip.gif")
        with Image.open(tmp_path / "clip.gif") as gif:
            assert gif.n_frames == frames
        show_clip(data, name, tmp_path / "clip.png")


def test_a_strip_shows_poses_in_time_order_each_in_its_own_field(tmp_path: Path):
    """Someone who walks away stays in the middle of the fields."""
    clip = rising(40, 0.02)
    clip[..., 0] += 0.1 * np.arange(40)[None, :, None]
    strip = pixels(draw_strip(read_clip(crosses([clip]), "clip-0")))[70:370]
    fields = np.array_split(strip[:, PADDING:-PADDING], 8, axis=1)
    tops = [np.argwhere((np.abs(field.astype(int) - PAINTS[0].left) <= 30).all(-1))[:, 0].min() for field in fields]
    assert tops == sorted(tops, reverse=True)
    assert tops[0] - tops[-1] > 40
    middles = [where(field, PAINTS[0].middle, 30)[0] / field.shape[1] for field in fields]
    assert np.ptp(middles) < 0.1


def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(40, 215, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (480, 480), interpolation=cv2.INTER_CUBIC)


def person_images(data: Path, image: np.ndarray, *, failure: str = "", finish: bool = True) -> str:
    settings = {"layout": "strip" if image.ndim == 3 else "frames-4", "person": "frame"}
    folder = create_cache(data, Recipe("person-images", "crosses", settings))
    names = read_skeletons(data / "skeletons.h5").names
    files = [to_jpegs(image) for _ in names]
    columns = {"jpeg": Ragged.of([file for file, _ in files]), "jpeg_ends": np.stack([ends for _, ends in files])}
    write_part(folder, 0, names, [failure for _ in names], columns)
    if finish:
        merge(folder)
    return folder.name


def distance(part: np.ndarray, page: np.ndarray) -> float:
    """Grey levels between a picture and the most alike place of a page."""
    return float(np.sqrt(cv2.minMaxLoc(cv2.matchTemplate(page, part, cv2.TM_SQDIFF))[0] / part.size))


def test_the_person_image_is_beside_the_poses(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(20)]))
    out = tmp_path / "clip.png"
    assert show_clip(data, "clip-0", out) == ["no person images here yet; the strip is drawn alone"]
    part = cv2.resize(picture(), (300, 300), interpolation=cv2.INTER_LANCZOS4)[20:-20, 20:-20]
    assert distance(part, pixels(Image.open(out))) > 20
    key = person_images(data, picture())
    assert show_clip(data, "clip-0", out) == [f"person image: {key}  frame, strip"]
    page = pixels(Image.open(out))
    assert distance(part, page) < 6
    assert distance(pixels(draw_strip(read_clip(crosses([rising(20)]), "clip-0")))[75:370, 30:400], page) < 6


def test_an_image_of_several_frames_is_shown_whole(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(20)]))
    person_images(data, np.stack([np.full((64, 64, 3), 60 * number, np.uint8) for number in range(4)]))
    show_clip(data, "clip-0", tmp_path / "clip.png")
    page = pixels(Image.open(tmp_path / "clip.png"))
    square = np.kron(np.array([[0, 60], [120, 180]]), np.ones((150, 150))).astype(np.uint8)
    assert distance(np.repeat(square[8:-8, 8:-8, None], 3, 2), page) < 6


def test_why_there_is_no_person_image_is_said_and_the_strip_is_drawn(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(20)]))
    out = tmp_path / "clip.png"
    failed = person_images(data, picture(), failure="timeout: 60 s")
    assert show_clip(data, "clip-0", out) == [f"no person image from {failed}: timeout: 60 s"]
    (data / "person-images" / failed / "recipe.json").write_text("{")
    assert show_clip(data, "clip-0", out)[0].startswith(f"no person image from {failed}: ")
    unfinished = person_images(data, np.stack([picture()] * 4), finish=False)
    notes = " ".join(show_clip(data, "clip-0", out))
    assert f"no person image from {unfinished}: " in notes
    assert "not finished" in notes
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strangers_names_are_drawn_and_steer_nothing(strange: str, tmp_path: Path):
    skeletons = crosses([rising(2)], names=[strange])
    clip = read_clip(Skeletons(**{**vars(skeletons), "classes": (strange,)}), strange)
    assert draw_frames(clip)[0].width == FIELD + 2 * PADDING
    assert draw_strip(clip).height < 500
    data = write(tmp_path / "data", skeletons)
    said = run(data, strange, "--out", tmp_path / "x.gif").output
    assert "\x1b" not in said
    assert (tmp_path / "x.gif").exists()


# -- the command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["show", *map(str, arguments)])


def test_without_out_the_gif_is_named_after_the_clip_and_lies_here(tmp_path: Path, monkeypatch):
    data = write(tmp_path / "data", crosses([rising(2)], names=["../a/clip"]))
    monkeypatch.chdir(tmp_path)
    assert run(data, "../a/clip").output == "written: clip.gif\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.gif", "data"]


def test_wrong_names_and_wrong_kinds_of_file_are_refused_in_one_line(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(2), rising(3)]))
    said = str(run(data, "clip-7").exception)
    assert said == "'clip-7': crosses has no clip of this name; did you mean clip-1 or clip-0?"
    said = str(run(data, "clip-0", "--out", tmp_path / "clip.jpg").exception)
    assert said == f"{tmp_path / 'clip.jpg'}: a clip is drawn as .gif, moving, or as .png, a strip; call it clip.gif"
    assert isinstance(run(tmp_path, "clip-0").exception, FileNotFoundError)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path):
    data = write(tmp_path / "data", crosses([rising(2)]))
    (tmp_path / "file").write_text("x")
    assert isinstance(run(data, "clip-0", "--out", tmp_path / "file" / "clip.gif").exception, OSError)
    (tmp_path / "taken.gif").mkdir()
    assert isinstance(run(data, "clip-0", "--out", tmp_path / "taken.gif").exception, OSError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "taken.gif"]
