"""The rules that choose NTU RGB+D's actors, against the reference's arithmetic worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmcl.pipeline.datasets import ntu_bodies
from mmcl.pipeline.datasets.ntu_bodies import (
    Actors,
    Body,
    bodies_of,
    by_motion,
    find_actors,
    in_slots,
    motion_of,
    noisy_frames,
    without_noisy,
    without_short,
)
from mmcl.pipeline.datasets.ntu_file import SkeletonFile
from mmcl.tests.ntu_files import standing


def pose(x: float = 0, width: float = 0, height: float = 1) -> np.ndarray:
    """24 joints at (x, 0, 3), and one that is `width` to the right of them and `height` above."""
    joints = np.tile(np.array([x, 0, 3], np.float32), (25, 1))
    joints[24] += [width, height, 0]
    return joints


def track(frames: int, x: float = 0, width: float = 0, height: float = 1) -> np.ndarray:
    return np.stack([pose(x, width, height)] * frames)


def body(name: str, start: int, joints: np.ndarray, motion: float = 0) -> Body:
    points = np.full((*joints.shape[:2], 2), start, np.float32)
    return Body(name, start, joints, points, motion, 0)


def file_of(frames: int, tracks: dict[str, tuple[list[int], np.ndarray]]) -> SkeletonFile:
    """A file of bodies, each with the frames that it is in; its colour points say the frame, as a share of 1000."""
    rows = sorted((frame, name, row) for name, (its, _) in tracks.items() for row, frame in enumerate(its))
    joints = np.stack([tracks[name][1][row] for _, name, row in rows])
    at = np.array([frame for frame, _, _ in rows])
    points = np.broadcast_to((at / 1000)[:, None, None], (len(rows), 25, 2)).astype(np.float32)
    return SkeletonFile(frames, tuple(name for _, name, _ in rows), at, joints, points)


def names(bodies: list[Body]) -> str:
    return "".join(one.id for one in bodies)


def odd(actors: Actors) -> str:
    return "; ".join(actors.notes)


def counted(actors: Actors) -> dict[str, int]:
    """The counts that are not zero, by the name of their constant."""
    named = {text: name for name, text in vars(ntu_bodies).items() if isinstance(text, str) and name.isupper()}
    return {named[text]: count for text, count in actors.counts.items() if count}


def test_frames_without_a_body_are_gone_before_frames_are_counted() -> None:
    """A is seen in frames 2, 4 and 5 of 8, B in 4: these are frames 0, 1, 2, and B starts at 1."""
    (a, b), frames = bodies_of(file_of(8, {"A": ([2, 4, 5], track(3)), "B": ([4], track(1))}))
    assert (frames, a.start, a.end, b.start, b.end) == (3, 0, 2, 1, 1)


def test_a_body_that_comes_back_has_its_frames_put_together() -> None:
    """B is seen in frames 0-4 and 15-22: as in the reference its 13 frames are 0-12, and what it did is told."""
    file = file_of(25, {"A": (list(range(25)), track(25, x=1)), "B": ([*range(5), *range(15, 23)], track(13))})
    _, b = bodies_of(file)[0]
    assert (b.start, b.end, b.away) == (0, 12, 10)
    actors = find_actors(file)
    assert actors.joints.shape[:2] == (2, 25)
    assert actors.joints[1].any(axis=(1, 2)).tolist() == [True] * 13 + [False] * 12
    assert "body B goes for 10 frames and comes back" in odd(actors)


def test_a_body_twice_in_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 3: body A is in it twice"):
        bodies_of(file_of(4, {"A": ([0, 1, 2, 2, 3], track(5))}))


def test_ids_that_differ_beyond_two_to_the_53_are_two_bodies() -> None:
    first, second = "72057594037931101", "72057594037931102"
    assert float(first) == float(second)
    found, _ = bodies_of(file_of(3, {first: ([0, 1, 2], track(3)), second: ([0, 1, 2], track(3))}))
    assert [one.id for one in found] == [first, second]


def test_motion_is_the_variance_of_each_axis_over_all_joints_of_all_frames() -> None:
    """x is 0 then 2: variance 1. z is 0 then 4: variance 4. y is 0..24 in each frame: (25 * 25 - 1) / 12 = 52."""
    joints = np.zeros((2, 25, 3), np.float32)
    joints[1] = 2, 0, 4
    assert motion_of(joints) == 5
    joints[..., 1] = np.arange(25)
    assert motion_of(joints) == 57


def test_of_several_bodies_those_of_eleven_frames_are_dropped() -> None:
    eleven, twelve = body("A", 0, track(11)), body("B", 0, track(12))
    assert names(list(without_short([eleven, twelve]))) == "B"
    assert names(list(without_short([eleven]))) == "A"


def test_where_all_bodies_are_short_none_is_dropped() -> None:
    """The reference fails here; and a clip of a few frames is better than none."""
    both = {"A": (list(range(6)), track(6)), "B": (list(range(6, 17)), track(11))}
    actors = find_actors(file_of(17, both))
    assert actors.joints.shape[:2] == (1, 17)
    assert "all of 2 bodies have 11 frames or fewer; none was dropped for it" in odd(actors)
    assert "SHORT" not in counted(actors)


def test_a_frame_is_noise_where_the_body_is_wider_than_four_fifths_of_its_height() -> None:
    """Height 5: width 4 is good, the next number after it is noise. A body of no extent at all is good."""
    wider = float(np.nextafter(np.float32(4), np.float32(5)))
    joints = np.stack([pose(width=4, height=5), pose(width=wider, height=5), pose(width=0, height=0)])
    assert noisy_frames(joints).tolist() == [False, True, False]


@pytest.mark.parametrize(("noisy", "kept"), [(69, "AB"), (70, "B")])
def test_a_body_is_dropped_if_69_754_of_100_frames_are_noise(noisy: int, kept: str) -> None:
    lying = np.concatenate([track(noisy, width=1, height=0), track(100 - noisy)])
    assert names(list(without_noisy([body("A", 0, lying), body("B", 0, track(100))]))) == kept


def test_the_spread_rule_stops_when_one_body_is_left() -> None:
    """Both lie in all frames: the first seen is dropped, the last stays."""
    both = [body(name, 0, track(20, width=1, height=0), motion=3) for name in "AB"]
    assert names(list(without_noisy(both))) == "B"


def test_a_noisy_body_has_the_smaller_of_its_motions() -> None:
    """A: 10 good frames of y = 1 at one joint of 25 (.04 * .96 = .0384) and 10 in which it lies at x = 100.
    B: its good frames alone would move more, x = -1 and 1 (variance 1), than all with its still ones, and the less
    counts. C has no noisy frame and keeps what it had."""
    a = body("A", 0, np.concatenate([track(10), track(10, x=100, width=1, height=0)]), motion=9999)
    b = body("B", 0, np.concatenate([track(5, x=-1), track(5, x=1), track(10, width=1, height=0)]), motion=0.54)
    c = body("C", 0, track(20), motion=7)
    found = without_noisy([a, b, c])
    assert [one.motion for one in found] == pytest.approx([0.0384, 0.54, 7], abs=1e-6)


def test_most_motion_comes_first_and_of_equals_the_first_seen() -> None:
    bodies = [body(name, 0, track(2), motion) for name, motion in zip("ABCD", (1, 3, 1, 2), strict=True)]
    assert names(by_motion(bodies)) == "BDAC"


def filled(intervals: list[tuple[int, int]]) -> list[str]:
    """Which body is in which frame of each slot, "." for none; body 1 is the first interval."""
    bodies = [body(str(x), start, track(end - start + 1, x)) for x, (start, end) in enumerate(intervals, 1)]
    joints, points, _ = in_slots(bodies, 1 + max(end for _, end in intervals))
    assert (np.isfinite(points[..., 0, 0]) == joints.any(axis=(2, 3))).all()
    return ["".join(str(int(x)) if x else "." for x in slot) for slot in joints[:, :, 0, 0]]


@pytest.mark.parametrize(
    ("intervals", "slots"),
    [
        ([(0, 4)], ["11111", "....."]),
        ([(0, 4), (2, 6)], ["11111..", "..22222"]),
        ([(0, 4), (5, 6)], ["1111122", "......."]),
        ([(0, 4), (4, 6)], ["1111222", "......."]),  # one frame in common is none, and is the second's
        ([(0, 4), (3, 6)], ["11111..", "...2222"]),
        ([(3, 6), (0, 2)], ["2221111", "......."]),
        ([(3, 6), (0, 2), (5, 8)], ["2221111..", ".....3333"]),
        ([(0, 1), (6, 8), (3, 4)], ["11....222", "...33...."]),  # slot one's time is 0-8, though 2-5 are free
        ([(0, 9), (7, 9), (2, 5)], ["1111111111", ".......222"]),  # slot two's time is 0-9: no place for the third
        ([(5, 9), (0, 2), (7, 9), (1, 4)], ["222..11111", ".......333"]),  # nor where the first body is not yet
        ([(0, 9), (2, 5), (5, 9)], ["1111111111", "..22233333"]),
    ],
)
def test_bodies_go_to_the_first_slot_whose_time_they_do_not_overlap(
    intervals: list[tuple[int, int]], slots: list[str]
) -> None:
    assert filled(intervals) == slots


def test_a_body_without_a_place_is_counted() -> None:
    every = {name: (list(range(20)), track(20, x)) for x, name in enumerate("ABCD")}
    assert counted(find_actors(file_of(20, every)))["OVERLAPPING"] == 2


def test_frames_in_which_no_actor_is_are_dropped_with_their_colour_points() -> None:
    """A is in frames 0-14, B of five frames (dropped) alone in 15-19, A again from 20 to 29; nobody is in 30 and 31.

    A's 25 frames are put together from the first on, so that the last five of 30 hold nobody.
    """
    file = file_of(32, {"A": ([*range(15), *range(20, 30)], track(25, 1)), "B": (list(range(15, 20)), track(5, 2))})
    actors = find_actors(file)
    assert actors.joints.shape == (1, 25, 25, 3)
    assert actors.image_points[0, [14, 15], 0, 0].tolist() == pytest.approx([0.014, 0.02])
    assert counted(actors) == {
        "IN_FILES": 2,
        "SHORT": 1,
        "IN_CACHE": 1,
        "FRAMES": 32,
        "NOBODY": 2,
        "NO_ACTOR": 5,
    }


def test_two_who_act_keep_the_frames_in_which_one_is_seen() -> None:
    """The one that moves more is first, whoever was seen first; where an actor is not there, joints are zero."""
    still, mover = track(20, x=1), np.concatenate([track(10, x=-1), track(10, x=5)])
    file = file_of(25, {"A": (list(range(20)), still), "B": (list(range(5, 25)), mover)})
    actors = find_actors(file)
    assert actors.joints[:, [0, 4, 5, 19, 20, 24], 0, 0].tolist() == [[0, 0, -1, 5, 5, 5], [1, 1, 1, 1, 0, 0]]
    assert np.isnan(actors.image_points[1, 20:]).all()
    assert actors.image_points[0, 5, 0, 0] == pytest.approx(0.005)


def test_several_bodies_that_take_turns_are_one_actor() -> None:
    """A person lost and found again has two ids; the cache stores no second body of zeros."""
    file = file_of(40, {"A": (list(range(20)), track(20, 1)), "B": (list(range(20, 40)), track(20, 2))})
    actors = find_actors(file)
    assert actors.joints[:, [0, 19, 20, 39], 0, 0].tolist() == [[1, 1, 2, 2]]
    assert counted(actors)["ONE_SLOT"] == 1


def test_a_single_body_stays_whatever_it_is() -> None:
    """The rules are for several bodies: one of three frames that lies, all zero in one of them, is the clip."""
    joints = track(3, x=1, width=1, height=0)
    joints[1] = 0
    actors = find_actors(file_of(3, {"A": ([0, 1, 2], joints)}))
    assert np.array_equal(actors.joints, joints[None])
    assert actors.notes == ()


def test_at_most_300_frames_are_kept() -> None:
    actors = find_actors(file_of(303, {"A": (list(range(303)), track(303, 1)), "B": (list(range(303)), track(303, 2))}))
    assert actors.joints.shape[:2] == actors.image_points.shape[:2] == (2, 300)
    assert counted(actors)["LATE"] == 3
    assert odd(actors) == "303 frames; the first 300 were kept"


def test_a_person_who_stands_is_no_noise() -> None:
    """The writer's figure passes the spread rule, so that tests that go through files test the rules they mean to."""
    assert not noisy_frames(standing()[None]).any()
