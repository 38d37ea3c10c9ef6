"""The encoded clips beside this file, made once with ffmpeg 5.1 (Debian 12): `python make_clips.py` makes them anew.

Every frame shows its number in binary, as `tests/test_video.py` reads it: 8 cells in the upper half, the lowest bit on
the left, above a moving dot. What is broken is cut out of these clips by the tests.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np

BITS = 8
H264 = ("-c:v", "libx264", "-preset", "slow", "-crf", "26", "-bf", "3")
H265 = ("-c:v", "libx265", "-x265-params", "log-level=error")
UNEVEN = ("-vf", "setpts='if(lt(N,12),N,5*N-48)/30/TB'", "-vsync", "vfr")
KINDS = {  # name: (frames, width, height, ffmpeg's words)
    "h264.mp4": (30, 160, 120, (*H264, "-pix_fmt", "yuv420p")),
    "faststart.mp4": (40, 160, 120, (*H264, "-pix_fmt", "yuv420p", "-g", "8", "-movflags", "+faststart")),
    "one_keyframe.mp4": (40, 160, 120, (*H264, "-pix_fmt", "yuv420p", "-g", "250", "-sc_threshold", "0")),
    "variable_rate.mp4": (30, 160, 120, (*H264, "-pix_fmt", "yuv420p", *UNEVEN)),
    "grey.mp4": (30, 160, 120, (*H264, "-pix_fmt", "gray")),
    "grey_16_bit.mkv": (20, 64, 48, ("-c:v", "ffv1", "-pix_fmt", "gray16le")),
    "h264_10_bit.mp4": (30, 160, 120, (*H264, "-pix_fmt", "yuv420p10le")),
    "h265_10_bit.mp4": (30, 160, 120, (*H265, "-pix_fmt", "yuv420p10le")),
    "mpeg4.avi": (30, 160, 120, ("-c:v", "mpeg4", "-vtag", "XVID", "-q:v", "6", "-bf", "2", "-g", "250")),
    "mjpeg.avi": (20, 160, 120, ("-c:v", "mjpeg", "-q:v", "8", "-pix_fmt", "yuvj420p")),
    "odd.avi": (20, 161, 119, ("-c:v", "mpeg4", "-q:v", "6")),
    "odd.mp4": (20, 161, 119, (*H264, "-pix_fmt", "yuv444p")),
    "vp9.webm": (30, 160, 120, ("-c:v", "libvpx-vp9", "-b:v", "200k", "-pix_fmt", "yuv420p")),
}


def frame(number: int, width: int, height: int) -> np.ndarray:
    picture = np.full((height, width, 3), 90, np.uint8)
    cv2.circle(picture, (5 + number * 7 % (width - 10), height * 3 // 4), height // 10, (40, 200, 60), -1)
    for bit in range(BITS):
        picture[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = 255 * (number >> bit & 1)
    return picture


def ffmpeg(*words: str, pixels: bytes = b"") -> None:
    subprocess.run(["ffmpeg", "-y", "-v", "error", *words], input=pixels, check=True)


def main() -> None:
    here = Path(__file__).parent
    for name, (count, width, height, words) in KINDS.items():
        pixels = b"".join(frame(number, width, height).tobytes() for number in range(count))
        raw = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", "30", "-i", "-")
        ffmpeg(*raw, *words, str(here / name), pixels=pixels)
    whole = str(here / "h264.mp4")
    ffmpeg("-i", whole, "-c", "copy", "-metadata:s:v:0", "rotate=90", str(here / "rotated.mp4"))
    # an edit list: the packets from the key frame on are there, the first 15 frames are not to be shown
    ffmpeg("-ss", "0.51", "-i", str(here / "one_keyframe.mp4"), "-c", "copy", str(here / "edit_list.mp4"))
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-b:a", "16k", str(here / "audio_only.mp4"))


if __name__ == "__main__":
    main()
