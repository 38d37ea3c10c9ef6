"""Frames are exactly those asked for; what cannot be read is named, within a deadline."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcl.pipeline import video
from mmcl.pipeline.video import bin_centres, find_videos, read_clip

BITS, WIDTH, HEIGHT = 8, 160, 96
FORMATS = {"mpeg4.mp4": "mp4v", "mpeg4.avi": "XVID", "mjpeg.avi": "MJPG"}


def frame(number: int) -> np.ndarray:
    """A frame that shows its number in binary, high above a moving dot, and survives compression."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    cv2.circle(picture, (5 + number * 7 % 150, 70), 9, (40, 200, 60), -1)
    for bit in range(BITS):
        left = bit * WIDTH // BITS
        picture[: HEIGHT // 2, left : left + WIDTH // BITS] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: np.ndarray) -> int:
    cells = picture[8 : HEIGHT // 2 - 8].mean((0, 2)).reshape(BITS, -1)[:, 5:-5].mean(1)
    return sum(1 << bit for bit, cell in enumerate(cells) if cell > 127)


def write(path: Path, count: int, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 30, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(count):
        writer.write(frame(number))
    writer.release()
    return path


@pytest.mark.parametrize(("file", "codec"), FORMATS.items())
@pytest.mark.parametrize("total", [1, 2, 5, 7, 100])
def test_the_frames_are_exactly_those_at_the_centres_of_equal_parts(tmp_path: Path, file: str, codec: str, total: int):
    clip = read_clip(write(tmp_path / file, total, codec), 5)
    assert clip.total == total
    assert clip.index.tolist() == bin_centres(total, 5)
    assert [number_of(picture) for picture in clip.frames] == clip.index.tolist()


def test_the_centres_reach_over_the_whole_clip():
    assert bin_centres(100, 5) == [10, 30, 50, 70, 90]
    assert bin_centres(1, 5) == [0] * 5


def test_frames_are_rgb(tmp_path: Path):
    writer = cv2.VideoWriter(str(tmp_path / "red.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 64))
    for _ in range(3):
        writer.write(np.full((64, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    red, green, blue = read_clip(tmp_path / "red.mp4", 1).frames[0].mean((0, 1))
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
    clip = read_clip(path, 5)
    assert [number_of(picture) for picture in clip.frames] == clip.index.tolist() == [5, 15, 25, 35, 45]


def test_of_a_truncated_file_that_still_opens_the_frames_that_are_there_are_used(tmp_path: Path):
    path = write(tmp_path / "a.avi", 60, "MJPG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip(path, 5)
    assert 10 < clip.total < 60
    assert clip.index.tolist() == bin_centres(clip.total, 5)
    assert [number_of(picture) for picture in clip.frames[:4]] == clip.index[:4].tolist()


def test_a_picture_with_a_videos_name_is_a_clip_of_one_frame(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(cv2.imencode(".png", frame(37))[1].tobytes())
    clip = read_clip(tmp_path / "a.mp4", 5)
    assert clip.total == 1
    assert [number_of(picture) for picture in clip.frames] == [37] * 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "unreadable: an empty file"), (b"hello, not a video\n" * 100, "unreadable: not a video")],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_clip(tmp_path / "a.mp4", 5)


def test_an_mp4_that_lost_its_index_is_unreadable(tmp_path: Path):
    path = write(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="unreadable: not a video"):
        read_clip(path, 5)


def test_a_missing_file_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        read_clip(tmp_path / "a.mp4", 5)


def test_a_video_without_one_whole_frame_is_undecodable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.mp4", 3)
    monkeypatch.setattr(cv2.VideoCapture, "grab", lambda self: False, raising=False)
    with pytest.raises(ValueError, match="undecodable: no frame could be decoded"):
        read_clip(tmp_path / "a.mp4", 5)


def test_reading_ends_at_the_deadline(tmp_path: Path):
    with pytest.raises(TimeoutError, match=r"timeout: stopped at frame \d+"):
        read_clip(write(tmp_path / "a.mp4", 50), 5, deadline=0)


# -- finding them


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (["a.mp4", "b.mp4"], "{name}"),
        (["one/a_rgb.avi", "two/b_rgb.avi"], "{name}_rgb"),
        (["a_color.avi", "b_color.AVI"], "{name}_color"),
        (["a_depth.mp4", "b_depth.mp4"], "{name}_depth"),
        (["a.avi", "b.mp4"], "{name}"),
        (["a_rgb.mp4", "b_rgb.mp4", "a_depth.mp4", "b_depth.mp4"], "{name}_rgb"),
        (["a.mp4", "b.mp4", "a.txt", "b.npy", "other.mp4"], "{name}"),
    ],
)
def test_videos_are_found_by_name_anywhere_under_the_folder(tmp_path: Path, files: list[str], pattern: str):
    found = find_videos(touch(tmp_path, *files), ["a", "b"])
    assert found.pattern == pattern
    assert [found.paths[name] for name in "ab"] == [tmp_path / file for file in files[:2]]


def test_a_sample_without_a_video_is_left_out(tmp_path: Path):
    assert set(find_videos(touch(tmp_path, "a.mp4"), ["a", "b"]).paths) == {"a"}


def test_two_videos_of_one_name_are_refused(tmp_path: Path):
    touch(tmp_path, "x/a.mp4", "y/a.avi")
    with pytest.raises(
        ValueError, match=r"a: 2 videos of this name \(.*x/a\.mp4, .*y/a\.avi\); give the folder of one"
    ):
        find_videos(tmp_path, ["a"])


def test_no_video_at_all_is_refused_with_what_was_looked_for_and_what_was_there(tmp_path: Path):
    touch(tmp_path, "S001.mp4", "notes.txt")
    looked = rf"looked for a, a_rgb, a_color, a_depth \({' '.join(video.SUFFIXES)}\)"
    wanted = f"no video of any of 2 samples; {looked}; found S001"
    with pytest.raises(ValueError, match=wanted):
        find_videos(tmp_path, ["a", "b"])
    with pytest.raises(FileNotFoundError, match="no such folder of videos"):
        find_videos(tmp_path / "nowhere", ["a"])
