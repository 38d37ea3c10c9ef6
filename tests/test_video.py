"""Frames are exactly those asked for; what cannot be read is named."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcl.pipeline.videos.video import Clip, bin_centres, read_clip, size_of

CLIPS = Path(__file__).parent / "clips"
BITS, WIDTH, HEIGHT = 8, 160, 96
FORMATS = {"mpeg4.mp4": "mp4v", "mpeg4.avi": "XVID", "mjpeg.avi": "MJPG"}
ODD_ONES = ("audio_only.mp4", "edit_list.mp4", "make_clips.py", "rotated.mp4")
WHOLE = [path for path in sorted(CLIPS.glob("*.*")) if path.name not in ODD_ONES]
EVERY_FRAME = 200  # as many parts as make every frame of a shorter clip a centre


def frame(number: int, width: int = WIDTH) -> np.ndarray:
    """A frame that shows its number in binary, high above a moving dot, and survives compression."""
    picture = np.full((HEIGHT, width, 3), 90, np.uint8)
    cv2.circle(picture, (5 + number * 7 % 150, 70), 9, (40, 200, 60), -1)
    for bit in range(BITS):
        left = bit * width // BITS
        picture[: HEIGHT // 2, left : left + width // BITS] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    line = picture[height // 8 : height * 3 // 8].mean((0, 2))
    cell = width // BITS
    return sum(1 << bit for bit in range(BITS) if line[bit * width // BITS :][cell // 4 : cell * 3 // 4].mean() > 127)


def numbers_of(clip: Clip) -> list[int]:
    return [number_of(picture) for picture in clip.frames]


def write(path: Path, count: int, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 30, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


def read(path: Path, count: int = 5) -> Clip:
    return read_clip(path, (count,))[0]


def most_of(path: Path, folder: Path) -> Path:
    """A copy that lost the last third of its bytes."""
    most = folder / path.name
    most.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return most


@pytest.mark.parametrize(("file", "codec"), FORMATS.items())
@pytest.mark.parametrize("total", [1, 2, 5, 7, 100])
def test_the_frames_are_exactly_those_at_the_centres_of_equal_parts(tmp_path: Path, file: str, codec: str, total: int):
    clip = read(write(tmp_path / file, total, codec))
    assert clip.total == clip.claimed == total
    assert clip.index.tolist() == bin_centres(total, 5)
    assert numbers_of(clip) == clip.index.tolist()


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.name)
def test_every_frame_of_every_kind_of_video_is_the_one_of_its_number(path: Path):
    """Reordered and key frames far apart, uneven times, odd sizes, grey, 10 and 16 bits: three channels of 8 bits."""
    clip = read(path, EVERY_FRAME)
    assert numbers_of(clip) == clip.index.tolist()
    assert set(clip.index) == set(range(clip.total))
    assert clip.total == clip.claimed >= 20
    assert clip.frames.dtype == np.uint8
    assert clip.frames.shape[3] == 3


def test_a_video_that_is_to_be_shown_turned_is_turned():
    upright = read(CLIPS / "rotated.mp4")
    assert upright.frames.shape[1:] == (160, 120, 3)
    assert [number_of(np.rot90(picture, 3)) for picture in upright.frames] == upright.index.tolist()


def test_several_counts_come_from_one_pass(monkeypatch: pytest.MonkeyPatch):
    opened, real = [], cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: opened.append(args) or real(*args))
    few, many = read_clip(CLIPS / "h264.mp4", (5, 16))
    assert numbers_of(few) == few.index.tolist() == bin_centres(30, 5)
    assert numbers_of(many) == many.index.tolist() == bin_centres(30, 16)
    assert len(opened) == 1


def test_frames_that_are_not_to_be_shown_are_no_frames():
    """Cut without encoding anew: the packets of 40 frames are there, the first 16 are not to be shown."""
    clip = read(CLIPS / "edit_list.mp4", EVERY_FRAME)
    assert (clip.total, clip.claimed) == (24, 40)
    assert sorted(set(numbers_of(clip))) == list(range(16, 40))


def test_every_frame_passed_is_a_sign_of_life():
    signs = list[int]()
    read_clip(CLIPS / "h264.mp4", (5,), lambda: signs.append(1))
    assert len(signs) == 30


def test_the_centres_reach_over_the_whole_clip():
    assert bin_centres(100, 5) == [10, 30, 50, 70, 90]
    assert bin_centres(1, 5) == [0] * 5


@pytest.mark.parametrize("name", ["red.mp4", "images/1.jpg"])
def test_frames_are_rgb(tmp_path: Path, name: str):
    (tmp_path / "images").mkdir()
    colour = np.full((64, 64, 3), (0, 0, 255), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "1.jpg"), colour)
    writer = cv2.VideoWriter(str(tmp_path / "red.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 64))
    for _ in range(3):
        writer.write(colour)
    writer.release()
    red, green, blue = read(tmp_path / name.removesuffix("/1.jpg"), 1).frames[0].mean((0, 1))
    assert red > 200
    assert max(green, blue) < 50


@pytest.mark.parametrize("claimed", [3, 500, 0, -9.2e18])
def test_a_header_that_lies_about_the_length_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: float
):
    path, real = write(tmp_path / "a.mp4", 50), cv2.VideoCapture

    class Lying:
        def __init__(self, *args: object) -> None:
            self._capture = real(*args)

        def get(self, key: int) -> float:
            assert key == cv2.CAP_PROP_FRAME_COUNT
            return claimed

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", Lying)
    clip = read(path)
    assert numbers_of(clip) == clip.index.tolist() == [5, 15, 25, 35, 45]
    assert (clip.total, clip.claimed) == (50, max(0, int(claimed)))


def test_a_video_that_is_another_at_each_reading_is_undecodable(monkeypatch: pytest.MonkeyPatch):
    """Its header says 40 frames, 24 are there, and so it is read twice; then a disk fails."""
    readings, real = [], cv2.VideoCapture.grab

    def grab(capture: cv2.VideoCapture) -> bool:
        readings.append(capture)
        return real(capture) and len(readings) < 40

    monkeypatch.setattr(cv2.VideoCapture, "grab", grab, raising=False)
    with pytest.raises(ValueError, match="undecodable: 24 frames at the first reading, 14 at the second"):
        read(CLIPS / "edit_list.mp4")


def test_a_frame_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2.VideoCapture, "retrieve", lambda capture: (False, None), raising=False)
    with pytest.raises(ValueError, match=r"undecodable: frames \[3, 9, 15, 21, 27\] of 30 can't be decoded"):
        read(CLIPS / "h264.mp4")


@pytest.mark.parametrize("name", ["mjpeg.avi", "mpeg4.avi", "faststart.mp4", "vp9.webm"])
def test_of_a_truncated_file_that_still_opens_the_frames_that_are_there_are_used(tmp_path: Path, name: str):
    """The header's number tells that there were more. The last frame may be torn."""
    clip = read(most_of(CLIPS / name, tmp_path), EVERY_FRAME)
    assert 10 < clip.total < read(CLIPS / name).total == clip.claimed
    assert set(clip.index) == set(range(clip.total))
    for picture, number in zip(clip.frames, clip.index, strict=True):
        assert number_of(picture) == number or number == clip.total - 1


@pytest.mark.parametrize("seed", range(5))
def test_of_a_file_with_flipped_bits_the_frames_that_can_be_decoded_are_used(tmp_path: Path, seed: int):
    content = np.fromfile(CLIPS / "faststart.mp4", np.uint8)
    chance = np.random.default_rng(seed)
    content[chance.integers(len(content) // 3, len(content), 60)] ^= chance.integers(1, 256, 60, np.uint8)
    content.tofile(tmp_path / "a.mp4")
    clip = read(tmp_path / "a.mp4")
    assert clip.frames.shape == (5, 120, 160, 3)
    assert clip.claimed == 40


def test_a_picture_with_a_videos_name_is_a_clip_of_one_frame(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(cv2.imencode(".png", frame(37))[1].tobytes())
    clip = read(tmp_path / "a.mp4")
    assert (clip.total, clip.claimed) == (1, 0)
    assert numbers_of(clip) == [37] * 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable: an empty file"),
        (b"hello, not a video\n" * 100, "unreadable: not a video"),
        ((CLIPS / "audio_only.mp4").read_bytes(), "unreadable: not a video"),
        ((CLIPS / "h264.mp4").read_bytes()[:2000], "unreadable: not a video"),
    ],
    ids=["empty", "text", "audio only", "an mp4 that lost its index"],
)
def test_what_is_no_video_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path / "a.mp4")


def test_a_missing_file_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", [b"b\xff.mp4", b"concat:x.mp4", b"a%03d.mp4", "ü 雪.mp4".encode()])
def test_a_name_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes):
    """A name that is no UTF-8 crashes OpenCV where it goes there as text; others look like an address or a pattern."""
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    path.write_bytes((CLIPS / "h264.mp4").read_bytes())
    assert read(path).total == 30


def test_a_video_without_one_whole_frame_is_undecodable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cv2.VideoCapture, "grab", lambda self: False, raising=False)
    with pytest.raises(ValueError, match="undecodable: no frame could be decoded"):
        read(CLIPS / "h264.mp4")


# -- folders of images


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def frames_in(folder: Path, pattern: str, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        assert cv2.imwrite(str(folder / pattern.format(number, time=90467319 + 33 * number)), frame(number))
    return folder


@pytest.mark.parametrize("pattern", ["frame_{}_tc_{time}_rgb.jpg", "{:06}.jpg", "img_{:05}.png", "{}.JPG"])
def test_a_folder_of_images_is_a_clip_in_the_order_of_their_numbers(tmp_path: Path, pattern: str):
    few, many = read_clip(frames_in(tmp_path / "a", pattern, 12), (5, EVERY_FRAME))
    assert numbers_of(few) == few.index.tolist() == bin_centres(12, 5)
    assert numbers_of(many) == many.index.tolist()
    assert many.total == many.claimed == 12


def test_of_a_folder_with_several_kinds_of_pictures_the_coloured_ones_are_the_frames(tmp_path: Path):
    """Northwestern-UCLA's form: depth maps, pictures of them and skeletons lie in the same folder."""
    folder = frames_in(tmp_path / "a01_s01_e00", "frame_{}_tc_{time}_rgb.jpg", 11)
    alone = size_of(folder)
    for number in range(11):
        stem, depth = folder / f"frame_{number}_tc_{90467351 + number}", np.full((24, 32), 3000 + number, np.uint16)
        cv2.imwrite(f"{stem}_depth.png", depth)
        cv2.imwrite(f"{stem}_depth_vis.jpg", (depth // 256).astype(np.uint8))
        Path(f"{stem}_skeletons.txt").write_text("0,0,0\n")
    (folder / "._frame_0_tc_0_rgb.jpg").write_bytes(b"left by a file manager")
    clip = read(folder)
    assert numbers_of(clip) == clip.index.tolist() == [1, 3, 5, 7, 9]
    assert size_of(folder) == alone == sum(file.stat().st_size for file in folder.glob("frame_*_rgb.jpg"))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["ir_1.png", "depth_1.png"], r"pictures of 2 kinds \(depth_1.png, ir_1.png\)"),
        (["left_rgb_1.png", "right_rgb_1.png", "depth_1.png"], "pictures of 3 kinds"),
        (["1.jpg", "a.mp4"], r"pictures of 2 kinds \(1.jpg, a.mp4\)"),
        (["notes.txt"], "unreadable: no images in the folder a"),
    ],
)
def test_a_folder_that_does_not_tell_its_frames_is_refused(tmp_path: Path, names: list[str], reason: str):
    with pytest.raises(ValueError, match=reason):
        read(touch(tmp_path / "a", *names))


def test_a_frame_that_is_no_image_is_named(tmp_path: Path):
    folder = frames_in(tmp_path / "a", "{:06}.jpg", 10)
    most_of(folder / "000005.jpg", tmp_path).replace(folder / "000005.jpg")
    with pytest.raises(ValueError, match=r"undecodable: 000005\.jpg is no image"):
        read(folder)
    (folder / "000005.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"undecodable: 000005\.jpg is an empty file"):
        read(folder)


def test_frames_of_different_sizes_are_refused(tmp_path: Path):
    folder = frames_in(tmp_path / "a", "{:06}.jpg", 10)
    cv2.imwrite(str(folder / "000005.jpg"), frame(5, width=320))
    with pytest.raises(ValueError, match=r"undecodable: frames of different sizes \(160x96, 320x96\)"):
        read(folder)


def test_the_size_of_a_video_is_that_of_its_file(tmp_path: Path):
    assert size_of(CLIPS / "h264.mp4") == len((CLIPS / "h264.mp4").read_bytes())
    with pytest.raises(FileNotFoundError):
        size_of(tmp_path / "a.mp4")
