"""The `.skeleton` format of NTU RGB+D: what is read of it, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmcl.pipeline.datasets.ntu_file import parse_skeleton
from mmcl.tests.ntu_files import FIRST_ID, Seen, seen, skeleton_text, standing

FIRST, SECOND = str(FIRST_ID), str(FIRST_ID + 1)


def crowd() -> list[list[Seen]]:
    """Four frames: A, then A and B, then nobody, then B, A and three more."""
    a, b = seen(standing(), FIRST), seen(standing(1), SECOND)
    others = [seen(standing(2 + more), str(FIRST_ID + 2 + more)) for more in range(3)]
    return [[a], [a, b], [], [b, a, *others]]


def damaged(line: int, text: str) -> bytes:
    """The file of `crowd` with one line replaced; lines count from 1."""
    lines = skeleton_text(crowd(), "\n").splitlines()
    lines[line - 1] = text
    return "\n".join(lines).encode()


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_every_body_in_every_frame_is_read(newline: str) -> None:
    found = parse_skeleton(skeleton_text(crowd(), newline).encode())
    assert found.frames == 4
    assert found.frame.tolist() == [0, 1, 1, 3, 3, 3, 3, 3]
    assert found.ids[:5] == (FIRST, FIRST, SECOND, SECOND, FIRST)
    assert found.joints.shape == (8, 25, 3)
    assert found.joints.dtype == found.image_points.dtype == np.float32
    np.testing.assert_allclose(found.joints[2], standing(1), rtol=1e-6)


def test_a_file_as_it_was_recorded_gives_these_numbers() -> None:
    """Numbers of the official form, exponents among them; the colour picture is 1920 x 1080."""
    joint = "0.2181153 0.1725972 3.785547 277.419 191.8218 480 270 -0.2059419 0.05349901 0.9692109 -0.1239193 2"
    small = "-3.5E-05 1e-3 4 0 0 1919.5 -10.8 0 0 0 0 0"
    text = "\r\n".join(["1", "1", f"{FIRST} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25", *[joint] * 24, small, ""])
    found = parse_skeleton(text.encode())
    assert found.joints[0, 0].tolist() == np.array([0.2181153, 0.1725972, 3.785547], np.float32).tolist()
    assert found.joints[0, 24].tolist() == np.array([-3.5e-05, 0.001, 4], np.float32).tolist()
    assert found.image_points[0, [0, 24]].ravel().tolist() == pytest.approx([0.25, 0.25, 0.99973958, -0.01])


def test_a_colour_point_that_is_not_known_is_nan() -> None:
    fields = skeleton_text(crowd(), "\n").splitlines()[4].split()
    found = parse_skeleton(damaged(5, " ".join([*fields[:5], "-Infinity", "NaN", *fields[7:]])))
    assert np.isnan(found.image_points[0, 0]).all()
    assert np.isfinite(found.image_points[0, 1:]).all()
    assert np.isfinite(found.joints).all()


def test_ids_are_text_and_neighbours_stay_two() -> None:
    found = parse_skeleton(skeleton_text(crowd()).encode())
    assert {FIRST, SECOND} < set(found.ids)
    assert float(FIRST) == float(SECOND)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    content = skeleton_text(crowd()[:2]).encode()
    places = [*range(0, len(content) - 200, 13), *range(len(content) - 200, len(content) - 2)]
    for place in places:
        with pytest.raises(ValueError, match=r"line \d|empty file"):
            parse_skeleton(content[:place])
    assert parse_skeleton(content[:-2]).frames == 2, "all but the last line's end is all of it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\r\n \r\n", "an empty file"),
        (b"PK\x03\x04\x88\x99", "line 1: byte 0x88 is not text"),
        (b"hello\n", "line 1: 'hello', wanted the number of frames"),
        (b"-1\n", "line 1: '-1', wanted the number of frames"),
        (b"1e3\n", "line 1: '1e3', wanted the number of frames"),
        (b"9" * 5000, "line 1: '99999999999"),
        (b"999999999\n0\n", "ends at line 2 in frame 2, of 999999999 frames"),
        (b"2\n1\n", "ends at line 2 in frame 1, of 2 frames"),
        (b"1\n999999999\n", "ends at line 2 in frame 1"),
        (b"1\n-1\n", "line 2, frame 1: '-1', wanted the number of bodies"),
        (damaged(1, "3"), "line 86: '5' after the last of 3 frames"),
        (damaged(1, "5"), "ends at line 221 in frame 5, of 5 frames"),
        (damaged(2, "0"), "line 3, frame 2: '72057594037931101 0 1 1 ', wanted the number of bodies"),
        (damaged(2, "2"), "line 30, frame 1: '2', wanted 10 fields of a body, its id first"),
        (
            damaged(3, "7.2e16 0 1 1 1 1 0 0.01 -0.25 2"),
            "line 3, frame 1: '7.2e16 0 1 1 1 1 0 0.01 ', wanted 10",
        ),
        (damaged(4, "20"), "line 4, frame 1: 20 joints, wanted 25"),
        (damaged(4, ""), "line 4, frame 1: '', wanted the number of joints"),
        (damaged(6, "0 0.3 3 1 2 3 4 0 0 0 2"), "line 6, frame 1: 11 fields, wanted 12 of a joint"),
        (damaged(6, "0 0.3 3 1 2 3 4 0 0 0 0 0 2"), "line 6, frame 1: 13 fields, wanted 12 of a joint"),
        (damaged(6, ""), "line 6, frame 1: 0 fields, wanted 12 of a joint"),
        (damaged(6, "0 0,3 3 1 2 3 4 0 0 0 0 2"), "line 6, frame 1: '0,3', wanted a number"),
        (damaged(6, "0 1_0 3 1 2 3 4 0 0 0 0 2"), "line 6, frame 1: '1_0', wanted a number"),
        (damaged(6, "0 0.3 3 1 2 3 x 0 0 0 0 2"), "line 6, frame 1: 'x', wanted a number"),
        (damaged(33, "0 0.3 nan 1 2 3 4 0 0 0 0 2"), "line 33, frame 2: 'nan', wanted a number"),
        (damaged(33, "-inf 0.3 3 1 2 3 4 0 0 0 0 2"), "line 33, frame 2: '-inf', wanted a number"),
        (damaged(33, "1e39 0.3 3 1 2 3 4 0 0 0 0 2"), "line 33, frame 2: '1e39', wanted a number"),
        (skeleton_text(crowd()).encode() + b"1\n", "line 222: '1' after the last of 4 frames"),
    ],
)
def test_what_is_not_in_the_format_is_refused_with_its_line_and_frame(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_skeleton(content)


def test_fields_may_be_apart_by_more_than_one_space() -> None:
    content = skeleton_text(crowd()).encode()
    spaced = parse_skeleton(content.replace(b" ", b"\t ").replace(b"\r\n", b" \r\n") + b"\r\n \r\n")
    assert np.array_equal(spaced.joints, parse_skeleton(content).joints)
