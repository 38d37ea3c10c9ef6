"""`mmcl data check`: each planted fault is found and nothing else is, clean data is clean, and no file crashes it."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmcl.cache.mapped import Ragged
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import OUT, TEST, TRAIN, Layout, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.pipeline.checks.check import check
from mmcl.pipeline.checks.finding import MEANINGS, Finding
from mmcl.pipeline.data_commands import data as commands
from mmcl.pipeline.datasets import open_dataset
from mmcl.pipeline.preparation.layouts import COCO_17, KINECT_V1, KINECT_V1_UTD
from mmcl.pipeline.preparation.prepare import prepare

REAL = Path(os.environ.get("MMCL_REAL_DATA", "absent"))
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="MMCL_REAL_DATA names no folder with nw_ucla and utd_mhad")
Clips = list[np.ndarray]
SPINE = 1


def of(skeletons: Skeletons) -> Clips:
    return [np.array(skeletons.joints[row]) for row in range(len(skeletons.names))]


def row(skeletons: Skeletons, name: str) -> int:
    return skeletons.names.index(name)


def take(skeletons: Skeletons, rows: Sequence[int]) -> Skeletons:
    """Some clips of a data set, numbered where one is taken several times."""
    names, again = [skeletons.names[one] for one in rows], Counter[str]()
    for number, name in enumerate(names):
        names[number] += f" take {again[name]}" * bool(again[name])
        again[name] += 1
    return replace(
        skeletons,
        names=tuple(names),
        labels=skeletons.labels[rows],
        bodies=skeletons.bodies[rows],
        joints=Ragged.of([np.array(skeletons.joints[one]) for one in rows]),
        splits={name: replace(split, sides=split.sides[rows]) for name, split in skeletons.splits.items()},
        columns={name: column[rows] for name, column in skeletons.columns.items()},
    )


def in_clip(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Skeletons], Skeletons]:
    """A fault in the joints of one clip."""

    def spoil(skeletons: Skeletons) -> Skeletons:
        clips = of(skeletons)
        clips[row(skeletons, name)] = change(clips[row(skeletons, name)])
        return replace(skeletons, joints=Ragged.of(clips))

    return spoil


def in_all(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Skeletons], Skeletons]:
    """A fault in all joints."""
    return lambda skeletons: replace(skeletons, joints=Ragged.of([change(clip) for clip in of(skeletons)]))


def same_joints(source: str, target: str) -> Callable[[Skeletons], Skeletons]:
    return lambda skeletons: in_clip(target, lambda _: np.array(skeletons.joints[row(skeletons, source)]))(skeletons)


def on_side(split: str, side: int, *names: str) -> Callable[[Skeletons], Skeletons]:
    def spoil(skeletons: Skeletons) -> Skeletons:
        splits = dict(skeletons.splits)
        for one in splits if split == "all" else (split,):
            sides = np.array(splits[one].sides)
            sides[[row(skeletons, name) for name in names]] = side
            splits[one] = Split(sides)
        return replace(skeletons, splits=splits)

    return spoil


def set_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(clip: np.ndarray) -> np.ndarray:
        clip[3, 5, 1] = value
        return clip

    return change


def waves(skeletons: Skeletons) -> list[bool]:
    return [name.startswith("wave") for name in skeletons.names]


def only_waves(skeletons: Skeletons) -> np.ndarray:
    """The sides of the split `given`, all clips but the waves out of it."""
    return np.where(waves(skeletons), skeletons.splits["given"].sides, OUT).astype(np.int8)


def alike_classes(*names: str) -> Callable[[Skeletons], Skeletons]:
    """The names of the first classes changed to these."""
    return lambda skeletons: replace(skeletons, classes=(*names, *skeletons.classes[len(names) :]))


def many_waves(skeletons: Skeletons) -> Skeletons:
    """Eleven times the clips of one class, each a little different."""
    rng = np.random.default_rng(0)
    found = take(skeletons, [*range(len(skeletons.names)), *(np.flatnonzero(waves(skeletons)).tolist() * 10)])
    return replace(
        found, joints=Ragged.of([clip + rng.normal(0, 1e-4, clip.shape).astype(np.float32) for clip in of(found)])
    )


def second_body(skeletons: Skeletons) -> Skeletons:
    clips, bodies = of(skeletons), np.array(skeletons.bodies)
    clips[2], bodies[2] = np.concatenate([clips[2], np.zeros_like(clips[2])]), 2
    return replace(skeletons, joints=Ragged.of(clips), bodies=bodies)


def emptied(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """The last frames without anybody."""

    def change(clip: np.ndarray) -> np.ndarray:
        clip[round(len(clip) * (1 - share)) :] = 0
        return clip

    return change


def come_and_stay(clip: np.ndarray) -> np.ndarray:
    """Nobody, then somebody who never moves."""
    return np.concatenate([np.zeros((9, 20, 3), np.float32), np.tile(clip[:1], (30, 1, 1))])


def longer(clip: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1e-3, (15 * len(clip), *clip.shape[1:]))
    return np.tile(clip, (15, 1, 1)) + noise.astype(np.float32)


def breathing(clip: np.ndarray) -> np.ndarray:
    """A person who grows and shrinks."""
    middle = clip[:, [SPINE]]
    return middle + (clip - middle) * np.linspace(0.4, 1.6, len(clip), dtype=np.float32)[:, None, None]


def larger(times: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda clip: clip[:, [SPINE]] + (clip - clip[:, [SPINE]]) * np.float32(times)


def long_left_arm(clip: np.ndarray) -> np.ndarray:
    clip[:, 5:8] = clip[:, [4]] + (clip[:, 5:8] - clip[:, [4]]) * 2.7
    return clip


def limbs_swapped(clip: np.ndarray) -> np.ndarray:
    """Arms where the layout has legs."""
    return clip[:, [0, 1, 2, 3, *range(12, 20), *range(4, 12)]]


def upside(clip: np.ndarray) -> np.ndarray:
    return clip * np.array([1, -1, -1], np.float32)


SHUFFLED = np.random.default_rng(3).permutation(20)
FROM_UTD = [KINECT_V1.joints.index(joint) for joint in KINECT_V1_UTD.joints]
BOTH = ("wave_s01_t1", "wave_s04_t1")
FAULTS: dict[str, tuple[Callable[[Skeletons], Skeletons], str, str, tuple[str, ...] | None]] = {
    "absent": (lambda s: replace(s, classes=(*s.classes, "jump")), "absent classes", "warning", ()),
    "classes alike in case": (alike_classes("WAVE", "Wave"), "alike classes", "warning", None),
    "classes alike in spaces": (alike_classes("sit  down ", "sitdown"), "alike classes", "warning", None),
    "classes alike in Unicode form": (alike_classes("caf\u00e9", "cafe\u0301"), "alike classes", "warning", None),
    "small": (
        lambda s: take(s, [n for n, name in enumerate(s.names) if name not in ("wave_s03_t1", "wave_s04_t1")]),
        *("small classes", "warning", ("wave_s01_t1", "wave_s02_t1")),
    ),
    "uneven": (many_waves, "uneven classes", "warning", ()),
    "no tests": (
        lambda s: replace(s, splits={**s.splits, "given": Split(np.full(len(s.names), TRAIN, np.int8))}),
        *("empty sides", "error", ()),
    ),
    "never tested": (on_side("given", OUT, "kick_s02_t1"), "classes never tested", "warning", None),
    "never trained": (
        on_side("given", OUT, *(f"kick_s0{n}_t1" for n in (1, 3, 4))),
        *("classes never trained", "error", ("kick_s02_t1",)),
    ),
    "unused": (on_side("all", OUT, "kick_s01_t1"), "unused clips", "note", ("kick_s01_t1",)),
    "shared by subject": (on_side("xsub", TEST, "kick_s01_t1"), "shared people", "error", None),
    "shared else": (on_side("given", TEST, "kick_s01_t1"), "shared people", "note", ()),
    "Unicode form": (
        lambda s: replace(s, names=("caf\u00e9_1", "cafe\u0301_1", *s.names[2:])),
        *("alike names", "warning", ("cafe\u0301_1", "caf\u00e9_1")),
    ),
    "one class": (
        lambda s: replace(take(s, np.flatnonzero(waves(s)).tolist()), classes=("wave",), labels=np.zeros(4, int)),
        *("one class", "error", ()),
    ),
    "split of one class": (
        lambda s: replace(s, splits={**s.splits, "given": replace(s.splits["given"], sides=only_waves(s))}),
        *("one class", "error", ()),
    ),
    "case": (
        lambda s: replace(s, names=("WAVE_s1_t1", "wave_s01_t1", *(name + "x" for name in s.names[2:]))),
        *("alike names", "warning", ("WAVE_s1_t1", "wave_s01_t1")),
    ),
    "NaN": (in_clip("kick_s01_t1", set_value(np.nan)), "not finite", "error", ("kick_s01_t1",)),
    "infinite": (in_clip("kick_s01_t1", set_value(-np.inf)), "not finite", "error", ("kick_s01_t1",)),
    "nobody": (in_clip("kick_s01_t1", np.zeros_like), "nobody", "error", ("kick_s01_t1",)),
    "zero body": (second_body, "zero bodies", "warning", None),
    "still": (in_clip("kick_s01_t1", lambda c: np.tile(c[:1], (30, 1, 1))), "motionless", "warning", ("kick_s01_t1",)),
    "still once there": (in_clip("kick_s01_t1", come_and_stay), "motionless", "warning", ("kick_s01_t1",)),
    "two of nobody": (
        lambda s: in_clip("kick_s01_t1", lambda _: np.zeros((30, 20, 3), np.float32))(
            in_clip("kick_s02_t1", lambda _: np.zeros((30, 20, 3), np.float32))(s)
        ),
        *("nobody", "error", ("kick_s01_t1", "kick_s02_t1")),
    ),
    "gaps": (in_clip("kick_s01_t1", emptied(0.6)), "gaps", "warning", ("kick_s01_t1",)),
    "one frame": (in_clip("kick_s01_t1", lambda clip: clip[:1]), "one frame", "warning", ("kick_s01_t1",)),
    "short": (in_clip("kick_s01_t1", lambda clip: clip[:3]), "short clips", "note", ("kick_s01_t1",)),
    "long": (in_clip("kick_s01_t1", longer), "long clips", "note", ("kick_s01_t1",)),
    "leak": (same_joints(*BOTH), "leaks", "error", BOTH),
    "two labels": (same_joints("wave_s01_t1", "kick_s01_t1"), "two labels", "error", ("kick_s01_t1", "wave_s01_t1")),
    "twice": (same_joints("wave_s01_t1", "wave_s03_t1"), "twice", "warning", ("wave_s01_t1", "wave_s03_t1")),
    "shuffled": (in_all(lambda clip: clip[:, SHUFFLED]), "joint order", "error", ()),
    "other Kinect": (in_all(lambda clip: clip[:, FROM_UTD]), "joint order", "error", ()),
    "breathing": (in_clip("kick_s01_t1", breathing), "unsteady bones", "warning", ("kick_s01_t1",)),
    "limbs": (in_clip("wave_s01_t1", limbs_swapped), "odd proportions", "warning", ("wave_s01_t1",)),
    "long arm": (in_clip("kick_s01_t1", long_left_arm), "lopsided", "warning", ("kick_s01_t1",)),
    "upside down": (in_clip("wave_s01_t1", upside), "upside down", "warning", ("wave_s01_t1",)),
    "all upside down": (in_all(upside), "turned axes", "error", ()),
    "z up": (in_all(lambda clip: clip[..., [0, 2, 1]]), "turned axes", "error", ()),
    "too large by far": (in_all(lambda clip: clip * np.float32(1e37)), "units", "error", ()),
    "millimetres": (in_all(lambda clip: clip * 1000), "units", "error", ()),
    "too small": (in_all(lambda clip: clip / 8), "units", "error", ()),
    "giant": (in_clip("kick_s01_t1", larger(2.2)), "heights", "warning", ("kick_s01_t1",)),
}
# what was looked at by hand: the advice is worth its words
ADVICE = {
    "other Kinect": "say --layout kinect-v1-utd, which fits",
    "all upside down": "turn the sign of y in your files",
    "z up": "make x, z, y of x, y, z in your files, which is x right, y up, z away from the camera, and prepare again",
    "millimetres": "multiply all by 0.001, and prepare again",
    "too large by far": "find out what the numbers in your files are, and prepare again",
    "too small": "multiply all by ",
}


def found_in(folder: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.check, one.level, tuple(sorted(one.clips))) for one in check(folder).findings]


def spoilt(data: Path, fault: Callable[[Skeletons], Skeletons]) -> Path:
    """The data set of `data` with a fault in it."""
    clean = read_skeletons(data / "skeletons.h5")
    write_skeletons(data / "skeletons.h5", fault(replace(clean, joints=Ragged.of(of(clean)))))
    return data


def test_clean_data_has_no_findings(data: Path):
    assert found_in(data) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(data: Path, fault: str):
    change, name, level, clips = FAULTS[fault]
    found = found_in(spoilt(data, change))
    assert [one[:2] for one in found] == [(name, level)]
    assert clips is None or found[0][2] == clips


@pytest.mark.parametrize("fault", ADVICE)
def test_where_more_is_known_the_advice_says_it(data: Path, fault: str):
    finding = check(spoilt(data, FAULTS[fault][0])).findings[0]
    assert finding.mend.startswith(ADVICE[fault])


# how joints of people who stand along y came to lie along another axis, z away from the camera or not
TURNED: dict[str, tuple[list[int], list[int]]] = {  # of each new coordinate: which old one it is, and its sign
    "turn the sign of y": ([0, 1, 2], [1, -1, 1]),
    "make x, z, y of x, y, z": ([0, 2, 1], [1, 1, 1]),
    "make x, -z, y of x, y, z": ([0, 2, 1], [1, 1, -1]),
    "make -y, x, z of x, y, z": ([1, 0, 2], [1, -1, 1]),
    "make y, -x, z of x, y, z": ([1, 0, 2], [-1, 1, 1]),
}


def followed(advice: str) -> Callable[[np.ndarray], np.ndarray]:
    """What somebody does who reads it."""
    wanted = "x, -y, z" if advice.startswith("turn") else advice.removeprefix("make ").split(" of ")[0]
    axes = [one.strip() for one in wanted.split(",")]
    order, signs = (["xyz".index(one[-1]) for one in axes], [-1 if one[0] == "-" else 1 for one in axes])
    return lambda clip: clip[..., order] * np.float32(signs)


@pytest.mark.parametrize("advice", TURNED)
def test_who_follows_the_advice_for_turned_axes_has_the_clean_data_again(data: Path, advice: str):
    """So that z stays away from the camera."""
    order, signs = TURNED[advice]
    clean = np.array(read_skeletons(data / "skeletons.h5").joints[0])
    spoilt(data, in_all(lambda clip: clip[..., order] * np.float32(signs)))
    (finding,) = check(data).findings
    assert (finding.check, finding.mend.split(" in your files")[0]) == ("turned axes", advice)
    spoilt(data, in_all(followed(advice)))
    assert found_in(data) == []
    assert (np.array(read_skeletons(data / "skeletons.h5").joints[0]) == clean).all()


def own_poses(folder: Path, change: Callable[[np.ndarray], np.ndarray], size: str) -> Path:
    """Raw files [frames, 17, 2] of people in a picture, shares changed, with its `size` in a table."""
    folder.mkdir()
    clips = of(read_skeletons(folder.parent / "acted" / "skeletons.h5"))
    lines = ["name,skeleton,label,subject,width,height"]
    for number, clip in enumerate(clips):
        np.save(folder / f"c{number}.npy", change((picture(clip)[..., :2] + 1) / 2))
        lines.append(f"c{number},c{number}.npy,{'abcdef'[number % 6]},{number // 6},{size}")
    (folder / "samples.csv").write_text("\n".join(lines))
    return folder


def found_in_own(raw: Path) -> tuple[Finding, ...]:
    out = raw.with_suffix(".prepared")
    prepare("own", open_dataset("folder", raw, layout="coco-17"), out, lambda done, total: None)
    return tuple(one for one in check(out).findings if one.level == "error")


@pytest.mark.parametrize(("size", "scale"), [(",", (1, 1)), ("1280,720", (1280, 720))])
def test_who_follows_the_advice_for_2d_poses_upside_down_has_upright_ones(
    data: Path, tmp_path: Path, size: str, scale: tuple[int, int]
):
    """In the files, which hold shares or pixels, and which prepare takes when they are mended."""

    def turned(points: np.ndarray) -> np.ndarray:
        return points * np.float32(scale) * np.float32([1, -1]) + np.float32([0, scale[1]])

    def mended(points: np.ndarray) -> np.ndarray:
        return np.stack([turned(points)[..., 0], scale[1] - turned(points)[..., 1]], -1)

    (finding,) = found_in_own(own_poses(tmp_path / "turned", turned, size))
    assert finding.check == "turned axes"
    assert finding.mend == "in your files make y 1 - y for shares, height - y for pixels, and prepare again"
    assert found_in_own(own_poses(tmp_path / "mended", mended, size)) == ()


def test_2d_poses_in_a_picture_of_a_wrong_size_are_told_by_its_size(data: Path, tmp_path: Path):
    """Who reads it has columns width and height, not the cache's -1 to 1."""

    def pixels(points: np.ndarray) -> np.ndarray:
        return ((points - 0.5) * np.float32([1, 1.4]) + 0.5) * np.float32([1280, 720])

    assert found_in_own(own_poses(tmp_path / "right", pixels, "1280,720")) == ()
    (finding,) = found_in_own(own_poses(tmp_path / "small", pixels, "1280,400"))
    assert finding.check == "units"
    said = re.fullmatch(r"2D poses reach to ([\d.]+) times the picture: its width and height .*", finding.what)
    lowest = np.median([np.load(file)[..., 1].max() for file in (tmp_path / "small").glob("*.npy")])
    assert said
    assert float(said[1]) == pytest.approx(lowest / 400, rel=0.02)
    assert finding.mend.startswith("mend the columns width and height")


def test_numbers_are_written_without_exponents(data: Path):
    clean = read_skeletons(data / "skeletons.h5")
    for times in (1000, 1e5, 0.1, 1e-3, 1e-5, 1e-9, 1e37):
        write_skeletons(data / "skeletons.h5", in_all(lambda clip, times=times: clip * np.float32(times))(clean))
        (finding,) = (one for one in check(data).findings if one.check == "units")
        assert not re.search(r"\de[-+]?\d", finding.what + finding.mend), (times, finding)
        assert len(finding.what + finding.mend) < 200
        assert ("under 0.000001 from" in finding.what) == (times == 1e-9)
    write_skeletons(data / "skeletons.h5", in_all(lambda clip: clip * np.float32(1010))(clean))
    assert re.match(r"people are 2,0\d0 from head to foot", check(data).findings[0].what)


def leaks_of(data: Path) -> Finding:
    return next(one for one in check(data).findings if one.check == "leaks")


def test_test_clips_that_leak_are_named_each_with_its_twin(data: Path):
    def leak(skeletons: Skeletons) -> Skeletons:
        for name in ("drink", "kick", "sit-down", "wave"):
            skeletons = same_joints(f"{name}_s01_t1", f"{name}_s04_t1")(skeletons)
        return skeletons

    finding = leaks_of(spoilt(data, leak))
    assert finding.examples == tuple(f"{name}_s04_t1 = {name}_s01_t1" for name in ("drink", "kick", "sit-down", "wave"))
    assert len(finding.clips) == 8
    assert told(run(data).output)[1].endswith(f"{', '.join(finding.examples[:3])} and 1 more")


def test_a_test_clip_that_comes_before_its_twin_is_named_first_too(data: Path):
    def leak(skeletons: Skeletons) -> Skeletons:
        turned = on_side("xsub", TEST, BOTH[0])(on_side("xsub", TRAIN, BOTH[1])(skeletons))
        return same_joints(*BOTH)(turned)

    assert leaks_of(spoilt(data, leak)).examples == ("wave_s01_t1 = wave_s04_t1",)


def test_the_factor_of_an_unknown_unit_makes_people_of_people(data: Path):
    finding = check(spoilt(data, FAULTS["too small"][0])).findings[0]
    factor = float(finding.mend.split(" by ")[1].split(",")[0])
    assert 6 < factor < 10


def test_a_clip_that_no_longer_fits_its_checksum_is_named(data: Path):
    path = data / "skeletons.h5"
    joints = np.asarray(read_skeletons(path).joints[3])
    content = path.read_bytes()
    place = content.index(joints.tobytes())
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    name = read_skeletons(path).names[3]
    assert found_in(data) == [("damaged", "error", (name,))]


def test_frames_without_a_body_at_the_ends_of_a_clip_are_no_fault(data: Path):
    """A second person who comes later, and leaves again, is usual."""

    def visited(skeletons: Skeletons) -> Skeletons:
        clips, bodies = of(skeletons), np.array(skeletons.bodies)
        guest = clips[7][np.arange(len(clips[2])) % len(clips[7])]
        guest[:6] = guest[-9:] = 0
        clips[2], bodies[2] = np.concatenate([clips[2], guest]), 2
        return replace(skeletons, joints=Ragged.of(clips), bodies=bodies)

    assert found_in(spoilt(data, visited)) == []


def test_a_clip_longer_than_a_block_and_clips_over_its_borders_are_measured(data: Path, monkeypatch):
    monkeypatch.setattr("mmcl.pipeline.checks.measures.BLOCK_ROWS", 50)
    assert found_in(data) == []
    assert found_in(spoilt(data, FAULTS["still"][0])) == [("motionless", "warning", ("kick_s01_t1",))]


def picture(clip: np.ndarray) -> np.ndarray:
    """Kinect joints as COCO's in a picture, -1 to 1 and y down, with a score."""
    names = ["head"] * 5 + [f"{side} {joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                            for side in ("left", "right")]  # fmt: skip
    points = clip[:, [KINECT_V1.joints.index(name) for name in names]]
    shares = points[..., :2] / points[..., 2:] * (1, -1)
    return np.concatenate([shares, np.full((*shares.shape[:2], 1), 0.9)], -1).astype(np.float32)


def flat(skeletons: Skeletons, change: Callable[[np.ndarray], np.ndarray] = lambda clip: clip) -> Skeletons:
    clips = [change(picture(clip)) for clip in of(skeletons)]
    return replace(skeletons, joints=Ragged.of(clips), layout=COCO_17, coordinates="image")


def test_2d_poses_are_asked_only_what_can_be_asked_of_them(data: Path):
    assert found_in(spoilt(data, flat)) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda clip: clip * np.array([1, -1, 1], np.float32), "turned axes"),
        (lambda clip: (clip + 1) * np.array([960, 540, 1], np.float32), "units"),
    ],
)
def test_2d_poses_upside_down_or_in_pixels_are_found(data: Path, change: Callable, name: str):
    assert found_in(spoilt(data, lambda skeletons: flat(skeletons, change))) == [(name, "error", ())]


def lacking(*joints: str) -> Callable[[np.ndarray], np.ndarray]:
    """A picture in whose lower half people are, these joints of them not found."""

    def change(clip: np.ndarray) -> np.ndarray:
        clip = clip + np.array([0, 0.6, 0], np.float32)
        clip[:, [COCO_17.joints.index(joint) for joint in joints]] = 0
        return clip

    return change


HIPS = ("left hip", "right hip")


def test_2d_joints_that_are_not_found_are_nowhere_not_in_the_middle_of_the_picture(data: Path):
    """People at a desk: the head in the lower half, the hips not in the picture."""
    clean = read_skeletons(data / "skeletons.h5")
    for joints in (HIPS, ("nose",)):
        write_skeletons(data / "skeletons.h5", flat(clean, lacking(*joints)))
        assert found_in(data) == []


def test_who_is_upright_is_told_by_the_poses_and_the_hip_that_are_found(data: Path):
    """One hip, in one pose of three; the other joints are not."""

    def rarely(turn: int) -> Callable[[np.ndarray], np.ndarray]:
        def change(clip: np.ndarray) -> np.ndarray:
            without, clip = lacking(*HIPS)(clip), lacking("left hip")(clip)
            return np.where(np.arange(len(clip))[:, None, None] % 3 == 0, clip, without) * np.float32([1, turn, 1])

        return change

    clean = read_skeletons(data / "skeletons.h5")
    write_skeletons(data / "skeletons.h5", flat(clean, rarely(1)))
    assert found_in(data) == []
    write_skeletons(data / "skeletons.h5", flat(clean, rarely(-1)))
    assert found_in(data) == [("turned axes", "error", ())]


def test_people_who_lie_in_a_picture_are_not_upside_down(data: Path):
    assert found_in(spoilt(data, lambda skeletons: flat(skeletons, lambda clip: clip[..., [1, 0, 2]]))) == []


def test_a_body_that_is_there_for_a_moment_is_measured_in_it(data: Path):
    """A guest in one frame of a clip, whose left arm is much too long."""

    def visited(skeletons: Skeletons) -> Skeletons:
        clips, bodies = of(skeletons), np.array(skeletons.bodies)
        guest = np.zeros_like(clips[2])
        guest[1] = long_left_arm(clips[7].copy())[1]
        clips[2], bodies[2] = np.concatenate([clips[2], guest]), 2
        return replace(skeletons, joints=Ragged.of(clips), bodies=bodies)

    name = read_skeletons(data / "skeletons.h5").names[2]
    assert found_in(spoilt(data, visited)) == [("lopsided", "warning", (name,))]


def test_a_body_that_is_never_there_is_not_measured_by_its_neighbours(data: Path):
    def beside(skeletons: Skeletons) -> Skeletons:
        return second_body(in_clip(skeletons.names[3], long_left_arm)(skeletons))

    name = read_skeletons(data / "skeletons.h5").names
    assert found_in(spoilt(data, beside)) == [("zero bodies", "warning", name[2:3]), ("lopsided", "warning", name[3:4])]


def few(clips: Clips, layout: Layout = KINECT_V1, coordinates: str = "metres") -> Skeletons:
    """A small data set of these clips, one body each."""
    sides, count = np.tile(np.array([TRAIN, TEST], np.int8), len(clips))[: len(clips)], len(clips)
    return Skeletons(
        *("few", ("any", "other"), layout, tuple(map(str, range(count))), np.arange(count) // 2 % 2),
        np.ones(count, int),
        *(Ragged.of([clip.astype(np.float32) for clip in clips]), {"given": Split(sides)}),
        coordinates=coordinates,
    )


def names_found(folder: Path, skeletons: Skeletons) -> set[str]:
    write_skeletons(folder / "skeletons.h5", skeletons)
    return {one.check for one in check(folder).findings}


def walks(count: int, joints: int = 20, frames: int = 9) -> Clips:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.5, (frames, joints, 3)) + np.array([0, 0, 3]) for _ in range(count)]


def test_a_block_of_one_clip_of_one_frame_is_measured(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mmcl.pipeline.checks.measures.BLOCK_ROWS", 4 * 9)
    assert "one frame" in names_found(tmp_path, few([*walks(4), walks(1)[0][:1]]))


@pytest.mark.parametrize("coordinates", ["metres", "image"])
@pytest.mark.parametrize("value", [0, np.nan])
def test_data_without_one_body_that_can_be_measured_is_checked(tmp_path: Path, coordinates: str, value: float):
    clips = [np.full_like(clip, value) for clip in walks(6)]
    found = names_found(tmp_path, few(clips, coordinates=coordinates))
    assert ("not finite" if value else "nobody") in found
    assert not found & {"joint order", "turned axes", "units"}


def test_joints_that_are_all_in_one_place_are_of_no_order_and_no_height(tmp_path: Path):
    clips = [np.repeat(clip[:, :1], 20, axis=1) for clip in walks(8)]
    assert names_found(tmp_path, few(clips)) == {"heights"}
    assert names_found(tmp_path, few(clips, coordinates="image")) == set()


def test_one_clip_with_all_joints_in_one_place_is_found_among_others(data: Path):
    point = in_clip("kick_s01_t1", lambda clip: np.repeat(clip[:, :1], 20, axis=1))
    assert found_in(spoilt(data, point)) == [("heights", "warning", ("kick_s01_t1",))]


def test_a_layout_of_one_joint_has_no_bones_to_ask(tmp_path: Path):
    assert names_found(tmp_path, few(walks(8, joints=1), Layout("point", ("head",), (), 0))) == set()


def test_numbers_whose_squares_are_beyond_all_bounds_are_a_matter_of_units(data: Path):
    assert [one[0] for one in found_in(spoilt(data, in_all(lambda clip: clip * np.float32(1e37))))] == ["units"]


def test_class_names_that_are_no_utf8_are_listed(data: Path):
    def renamed(skeletons: Skeletons) -> Skeletons:
        return replace(FAULTS["absent"][0](skeletons), classes=(*skeletons.classes, "jump\udce9"))

    assert run(spoilt(data, renamed)).exit_code == 0
    assert "jump\\udce9" in (data / "check.csv").read_text()


def test_a_layout_of_other_names_is_not_measured_by_them(tmp_path: Path):
    """No head, no hips, no feet, no pairs."""
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, 0.01, (9, 3, 3)).astype(np.float32) + np.arange(9).reshape(3, 3) for _ in range(8)]
    sides = np.array([TRAIN, TEST] * 4, np.int8)
    labels = np.array([0, 0, 1, 1] * 2)
    layout = Layout("snake", ("front", "middle", "end"), ((1, 0), (2, 1)), 1)
    snakes = Skeletons(
        *("snakes", ("crawl", "curl"), layout, tuple("abcdefgh"), labels, np.ones(8, int)),
        *(Ragged.of([clip.astype(np.float32) for clip in clips]), {"given": Split(sides)}),
    )
    write_skeletons(tmp_path / "skeletons.h5", snakes)
    assert found_in(tmp_path) == []


# -- feature caches


def features(data: Path, rows: Callable[[np.ndarray], object] = lambda values: None, **options) -> Path:
    """A cache of RGB features in one part: of the first `count` clips, of `dataset`, with the clips that `failed`."""
    names = list(options.get("names", read_skeletons(data / "skeletons.h5").names))[: options.get("count")]
    folder = create_cache(data, Recipe("rgb", options.get("dataset", "acted"), {"model": "owner/rgb"}))
    values = np.random.default_rng(0).normal(size=(len(names), 16)).astype(np.float32)
    rows(values)
    failures = ["timeout" if number in options.get("failed", ()) else "" for number in range(len(names))]
    write_part(folder, 0, names, failures, {"feature": values})
    if options.get("finish", True):
        merge(folder)
    return folder


def test_a_whole_cache_is_no_finding(data: Path):
    features(data)
    assert found_in(data) == []


def test_what_is_missing_failed_or_strange_in_a_cache_is_named(data: Path):
    names = read_skeletons(data / "skeletons.h5").names
    features(data, names=[*names[:20], "stranger"], failed=(3, 4))
    assert found_in(data) == [
        ("missing features", "warning", tuple(sorted(names[20:]))),
        ("failed features", "warning", tuple(sorted(names[3:5]))),
        ("other clips", "note", ("stranger",)),
    ]


def test_numbers_of_failed_clips_are_not_looked_at(data: Path):
    def blank(values: np.ndarray) -> None:
        values[3] = np.nan

    features(data, blank, failed=(3,))
    assert [one[0] for one in found_in(data)] == ["failed features"]


def test_a_cache_in_parts_is_named(data: Path):
    features(data, finish=False)
    assert found_in(data) == [("unfinished caches", "warning", ())]


def test_features_that_are_nan_or_all_the_same_are_found(data: Path):
    def nan(values: np.ndarray) -> None:
        values[5, 3] = np.nan

    def constant(values: np.ndarray) -> None:
        values[:] = values[0]

    folder = features(data, nan)
    assert found_in(data) == [("features not finite", "error", (read_skeletons(data / "skeletons.h5").names[5],))]
    shutil.rmtree(folder)
    features(data, constant)
    assert found_in(data) == [("constant features", "error", ())]


@pytest.mark.parametrize("finish", [True, False])
def test_videos_that_end_before_their_header_says_are_named(data: Path, finish: bool):
    """Of a finished cache and of parts; a header that says nothing, or a little too much, is no fault."""
    names = read_skeletons(data / "skeletons.h5").names
    folder = create_cache(data, Recipe("person-images", "acted", {"layout": "strip"}))
    for part in (0, 1):
        there, claimed = np.full(12, 40), np.full(12, 40)
        if part:
            claimed[:4], there[3] = (0, 49, 1000, 0), 0
        rows, failed = names[12 * part : 12 * part + 12], ["timeout" if part and n == 3 else "" for n in range(12)]
        write_part(folder, part, rows, failed, {"video_frames": there, "claimed_frames": claimed})
    if finish:
        merge(folder)
    (finding,) = (one for one in check(data).findings if one.check == "cut videos")
    assert (finding.level, finding.clips, finding.examples) == (
        *("warning", (names[14],)),
        (f"{names[14]} (40 of 1,000)",),
    )
    assert finding.mend.endswith(str(folder))


def test_damage_in_a_cache_is_found(data: Path):
    path = features(data) / "cache.h5"
    value = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)[7].tobytes()
    content = path.read_bytes()
    path.write_bytes(content.replace(value, b"\x01" + value[1:]))
    assert [one[:2] for one in found_in(data)] == [("damaged features", "error")]


def test_a_cache_of_another_data_set_or_of_no_kind_is_found(data: Path):
    features(data, dataset="others")
    (create_cache(data, Recipe("text", "acted", {"model": "x"})) / "recipe.json").write_text("{")
    found = found_in(data)
    assert [one[:2] for one in found] == [("other data set", "error"), ("unreadable caches", "error")]


# -- the command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["check", *map(str, arguments)])


def told(said: str) -> list[str]:
    """The columns of a table of one finding."""
    lines = [line.split("│")[1:-1] for line in said.splitlines() if line.startswith("│")]
    return [" ".join(" ".join(cells).split()) for cells in zip(*lines, strict=True)]


def test_the_exit_code_tells_errors_and_with_strict_warnings(data: Path):
    assert run(data).exit_code == 0
    spoilt(data, FAULTS["one frame"][0])
    assert run(data).exit_code == 0
    assert run(data, "--strict").exit_code == 1
    spoilt(data, in_clip("wave_s01_t1", set_value(np.nan)))
    assert run(data).exit_code == 1


def test_a_note_is_no_failure_even_with_strict(data: Path):
    assert run(spoilt(data, FAULTS["unused"][0]), "--strict").exit_code == 0


def test_the_table_says_what_where_and_how_to_mend_it(data: Path):
    finding = check(spoilt(data, FAULTS["leak"][0])).findings[0]
    assert finding.what == "2 clips train and test split xsub under two names: 1 of its 12 tests"
    said = run(data).output
    level, what, means, mend = told(said)
    assert (level, what) == ("error", f"{finding.what} wave_s04_t1 = wave_s01_t1")
    assert (means, mend) == MEANINGS["leaks"]
    assert "acted, 24 clips: 1 error; every clip is in " in said


def test_every_clip_of_a_finding_is_in_a_file_and_an_old_file_is_replaced(data: Path):
    run(spoilt(data, FAULTS["limbs"][0]))
    lines = list(csv.DictReader((data / "check.csv").read_text().splitlines()))
    assert [(line["level"], line["check"], line["clip"]) for line in lines] == [
        ("warning", "odd proportions", "wave_s01_t1")
    ]
    spoilt(data, FAULTS["limbs"][0])  # swapped back
    run(data)
    assert (data / "check.csv").read_text().split() == ["level,check,found,clip,same", "as"]


@pytest.mark.parametrize("fault", ["leak", "two labels", "twice"])
def test_equal_clips_are_in_the_file_each_with_its_twin(data: Path, fault: str):
    change, name, _, clips = FAULTS[fault]
    run(spoilt(data, change))
    lines = list(csv.DictReader((data / "check.csv").read_text().splitlines()))
    assert clips is not None
    assert {(line["check"], line["clip"], line["same as"]) for line in lines} == {
        (name, *clips),
        (name, *reversed(clips)),
    }


def test_a_clip_that_leaks_is_named_with_one_of_the_other_side(data: Path):
    """Of four equal ones: two that train, one that tests, one in no part of the split."""
    names = [f"wave_s0{number}_t1" for number in (1, 2, 3, 4)]

    def leak(skeletons: Skeletons) -> Skeletons:
        skeletons = on_side("xsub", OUT, names[0])(on_side("xsub", TRAIN, names[1], names[2])(skeletons))
        skeletons = on_side("xsub", TEST, names[3])(skeletons)
        for name in names[1:]:
            skeletons = same_joints(names[0], name)(skeletons)
        return replace(skeletons, splits={"xsub": skeletons.splits["xsub"]})

    run(spoilt(data, leak))
    lines = list(csv.DictReader((data / "check.csv").read_text().splitlines()))
    found = {line["clip"]: line["same as"] for line in lines if line["check"] == "leaks"}
    assert found == {names[0]: names[1], names[1]: names[3], names[2]: names[3], names[3]: names[1]}


def test_other_findings_are_the_same_as_nothing(data: Path):
    run(spoilt(data, FAULTS["one frame"][0]))
    assert [line["same as"] for line in csv.DictReader((data / "check.csv").read_text().splitlines())] == [""]


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(data: Path, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "check.csv")

    monkeypatch.setattr("mmcl.pipeline.checks.check.write_csv", refused)
    result = run(spoilt(data, FAULTS["NaN"][0]))
    assert result.exit_code == 1
    assert "1 error; not listed by clip: " in " ".join(result.output.split())


def test_names_of_strangers_do_not_steer_the_terminal(data: Path):
    def renamed(skeletons: Skeletons) -> Skeletons:
        evil = "\x1b[31m[red]kick"
        classes = tuple("\x1b[2J[bold]" + name for name in skeletons.classes)
        skeletons = FAULTS["NaN"][0](skeletons)
        names = tuple(evil if name == "kick_s01_t1" else name for name in skeletons.names)
        return replace(skeletons, names=names, classes=(*classes, "\x1b[5mnone"), dataset="\x1b[2J")

    said = run(spoilt(data, renamed)).output
    assert "\x1b" not in said
    assert "[red]kick" in said


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path):
    assert isinstance(run(tmp_path).exception, FileNotFoundError)


def test_a_bar_is_shown_only_where_it_takes_long(data: Path, monkeypatch):
    assert "clips: 24/24" not in run(data).output
    monkeypatch.setattr("mmcl.pipeline.data_commands.PATIENCE", -1.0)
    assert "clips: 24/24" in run(data).output


def test_the_documentation_has_a_line_for_every_finding():
    text = (Path(__file__).parent.parent / "docs" / "checking.md").read_text()
    for name in MEANINGS:
        assert f"\n| {name} | " in text, f"docs/checking.md does not explain {name!r}"
    planted = {name for _, name, _, _ in FAULTS.values()}
    assert planted < set(MEANINGS)


def test_findings_come_worst_first(data: Path):
    def faults(skeletons: Skeletons) -> Skeletons:
        skeletons = FAULTS["one frame"][0](FAULTS["unused"][0](skeletons))
        return in_clip("wave_s02_t1", set_value(np.nan))(skeletons)

    assert [one[1] for one in found_in(spoilt(data, faults))] == ["error", "warning", "note"]


@real_data
def test_utd_mhad_is_clean(tmp_path: Path):
    prepare("utd-mhad", open_dataset("utd-mhad", REAL / "utd_mhad"), tmp_path, lambda done, total: None)
    assert found_in(tmp_path) == []


@real_data
def test_nw_ucla_has_clips_of_view_2_as_view_3_and_nothing_else_that_is_wrong(tmp_path: Path):
    prepare("nw-ucla", open_dataset("nw-ucla", REAL / "nw_ucla"), tmp_path, lambda done, total: None)
    findings = {one.check: one for one in check(tmp_path).findings}
    assert {name: one.level for name, one in findings.items()} == {
        "leaks": "error",
        "one frame": "warning",
        "shared people": "note",
    }
    assert len(findings["leaks"].clips) == 190
    assert "95 of its 464 tests" in findings["leaks"].what
