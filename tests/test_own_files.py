"""Skeleton files of one's own: every form that is read gives the same clip, and what is not read is a finding."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from mmcl.pipeline.datasets import open_dataset
from mmcl.pipeline.preparation.layouts import COCO_17, KINECT_V1
from mmcl.pipeline.preparation.prepare import Prepared, prepare

RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(5, 20, 3)).round(3)  # metres
FLAT = RNG.uniform(10, 400, (5, 17, 2)).round(1)  # pixels of a picture of 640 x 480
SCORE = RNG.uniform(0.5, 1, (5, 17)).round(3)
SCORED = np.concatenate([FLAT, SCORE[..., None]], axis=-1)


def run(raw: Path, out: Path, **options: object) -> Prepared:
    return prepare("own", open_dataset("folder", raw, **options), out, lambda done, total: None)


def write(folder: Path, columns: str, **files: bytes) -> Path:
    """A table of files, `columns` being those after name, label and skeleton with their values."""
    folder.mkdir()
    names, values = (",".join(part.split("=")[place] for part in columns.split()) for place in (0, 1))
    lines = [f"{name},wave,{name.replace('__', '.')},{values}" for name in files]
    (folder / "samples.csv").write_text("\n".join([f"name,label,skeleton,{names}", *lines]))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def npy(array: np.ndarray) -> bytes:
    return saved(lambda file: np.save(file, array))


def npz(**arrays: np.ndarray) -> bytes:
    return saved(lambda file: np.savez_compressed(file, **arrays, allow_pickle=True))


def saved(save: Callable[..., None]) -> bytes:
    file = BytesIO()
    save(file)
    return file.getvalue()


def rows(array: np.ndarray, mark: str = ",", heading: str = "", numbered: int | None = None, point: str = ".") -> bytes:
    lines = [heading] if heading else []
    for number, frame in enumerate(array.reshape(len(array), -1).tolist()):
        first = [] if numbered is None else [str(numbered + number)]
        lines.append(mark.join([*first, *(str(value).replace(".", point) for value in frame)]))
    return "\n".join([*lines, ""]).encode()


def long(array: np.ndarray, joints: list[str], third: str = "z") -> bytes:
    lines = [f"Frame,Joint,X,Y,{third}"]
    for frame, body in enumerate(array.tolist()):
        lines += [f"{frame + 1},{name},{','.join(map(str, point))}" for name, point in zip(joints, body, strict=True)]
    return "\n".join(lines).encode()


def dumped(content: object) -> bytes:
    return json.dumps(content).encode()


NUMBERS = [str(number) for number in range(20)]
METRES = {
    "npy": ("npy", npy(BODY)),
    "npy of bodies": ("npy", npy(BODY[None])),
    "npy flat": ("npy", npy(BODY.reshape(5, 60))),
    "npz of one array": ("npz", npz(whatever=BODY)),
    "npz of a named one": ("npz", npz(label=np.array(3), skeleton=BODY)),
    "json lists": ("json", dumped(BODY.tolist())),
    "json object": ("json", dumped({"label": 4, "skeletons": BODY.tolist()})),
    "json frames": ("json", dumped([{"joints": frame} for frame in BODY.tolist()])),
    "json flat frames": ("json", dumped({"data": [{"joints": frame.ravel().tolist()} for frame in BODY]})),
    "csv": ("csv", rows(BODY)),
    "csv with a heading": ("csv", rows(BODY, heading=",".join(f"c{n}" for n in range(60)))),
    "csv of pandas": ("csv", rows(BODY, heading="," + ",".join(map(str, range(60))), numbered=0)),
    "csv of pandas without an index": ("csv", rows(BODY, heading=",".join(map(str, range(60))))),
    "csv numbered": ("csv", rows(BODY, numbered=17)),
    "csv with a mark at each end": ("csv", rows(BODY).replace(b"\n", b",\n")),
    "csv with decimal commas": ("csv", rows(BODY, mark=";", point=",")),
    "txt": ("txt", rows(BODY, mark="  ")),
    "txt of numpy": ("txt", saved(lambda file: np.savetxt(file, BODY.reshape(5, 60), header="x y z"))),
    "csv a row a joint": ("csv", long(BODY, NUMBERS)),
    "csv joints from 1": ("csv", long(BODY, [str(number) for number in range(1, 21)])),
    "csv joints by name": ("csv", long(BODY, [name.replace(" ", "_").title() for name in KINECT_V1.joints])),
}


@pytest.mark.parametrize(("suffix", "content"), METRES.values(), ids=METRES)
def test_every_form_gives_the_same_metres(tmp_path, suffix, content):
    found = run(write(tmp_path / "raw", "split=train", **{f"one__{suffix}": content}), tmp_path / "out")
    assert found.findings == []
    assert found.skeletons.layout.name == "kinect-v1"
    assert (found.skeletons.coordinates, found.skeletons.image_points) == ("metres", None)
    np.testing.assert_allclose(found.skeletons.joints[0], BODY, atol=1e-6)


def mmpose() -> object:
    people = [{"keypoints": p.tolist(), "keypoint_scores": s.tolist()} for p, s in zip(FLAT, SCORE, strict=True)]
    return {"meta_info": {}, "instance_info": [{"frame_id": i + 1, "instances": [p]} for i, p in enumerate(people)]}


def alphapose() -> object:
    people = [{"image_id": f"{i + 8}.jpg", "keypoints": p.ravel().tolist()} for i, p in enumerate(SCORED)]
    return people[::-1]


IMAGE = {
    "npy": ("npy", npy(SCORED)),
    "npz beside its scores": ("npz", npz(keypoint=FLAT[None], keypoint_score=SCORE[None])),
    "json of MMPose": ("json", dumped(mmpose())),
    "json of AlphaPose": ("json", dumped(alphapose())),
    "csv": ("csv", rows(SCORED)),
    "csv numbered": ("csv", rows(SCORED, heading="frame," + ",".join(f"c{n}" for n in range(51)), numbered=3)),
    "csv a row a joint": ("csv", long(SCORED, list(COCO_17.joints), "score")),
}


@pytest.mark.parametrize(("suffix", "content"), IMAGE.values(), ids=IMAGE)
def test_every_form_gives_the_same_2d_pose(tmp_path, suffix, content):
    raw = write(tmp_path / "raw", "split=train width=640 height=480.0", **{f"one__{suffix}": content})
    found = run(raw, tmp_path / "out", layout="coco-17")
    assert found.findings == []
    skeletons = found.skeletons
    assert (skeletons.coordinates, skeletons.layout.name, list(skeletons.columns)) == ("image", "coco-17", [])
    np.testing.assert_allclose(skeletons.joints[0][..., :2], FLAT / (320, 240) - 1, atol=1e-5)
    np.testing.assert_allclose(skeletons.joints[0][..., 2], SCORE, atol=1e-6)
    assert skeletons.image_points is not None
    np.testing.assert_allclose(skeletons.image_points[0], FLAT / (640, 480), atol=1e-6)


@pytest.mark.parametrize("content", [mmpose(), alphapose()], ids=["MMPose", "AlphaPose"])
def test_a_pose_with_scores_is_2d_in_any_layout(tmp_path, content):
    raw = write(tmp_path / "raw", "split=train width=640 height=480", one__json=dumped(content))
    found = run(raw, tmp_path / "out", layout="h36m-17").skeletons
    assert found.coordinates == "image"
    np.testing.assert_allclose(found.joints[0][..., 2], SCORE, atol=1e-6)


def test_the_layout_tells_frame_numbers_from_joints(tmp_path):
    """51 numbers are 17 joints of three, or a frame's number and 25 joints of two."""
    shares = np.random.default_rng(1).uniform(0.1, 0.9, (4, 25, 2))
    raw = write(tmp_path / "raw", "split=train", one__txt=rows(shares, mark=" ", numbered=0))
    found = run(raw, tmp_path / "out", layout="kinect-v2").skeletons
    np.testing.assert_allclose(found.joints[0][..., :2], 2 * shares - 1, atol=1e-6)


def test_shares_need_no_size_and_a_score_that_is_not_told_is_1(tmp_path):
    """Joints at 0, 0 and those without a number are not there."""
    shares = FLAT / (640, 480)
    shares[0, 3], shares[1, 5] = 0, np.nan
    found = run(write(tmp_path / "raw", "split=train", one__npy=npy(shares)), tmp_path / "out", layout="h36m-17")
    joints, points = found.skeletons.joints[0], found.skeletons.image_points
    assert found.skeletons.coordinates == "image" and points is not None
    there = np.ones((5, 17), bool)
    there[0, 3] = there[1, 5] = False
    np.testing.assert_allclose(joints[there][:, :2], 2 * shares[there] - 1, atol=1e-6)
    assert (joints[there][:, 2] == 1).all()
    assert not joints[~there].any() and not points[0][~there].any()
    assert [(f.found, f.done) for f in found.findings] == [("1 joints without a number: not there", "kept")]


def test_the_size_may_stand_in_the_file(tmp_path):
    content = dumped({"width": 640, "height": 480, "keypoints": FLAT.tolist()})
    found = run(write(tmp_path / "raw", "split=train", one__json=content), tmp_path / "out", layout="coco-17")
    np.testing.assert_allclose(found.skeletons.joints[0][..., :2], FLAT / (320, 240) - 1, atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("split=train", r"x 1\d\.\d+ to \d+.*: no shares of a picture \(0 to 1\); if pixels, add its width and height"),
        ("split=train width=64 height=48", "most joints lie outside a picture of 64 x 48"),
        ("split=train width=640px height=480", "width 640px; wanted the video's in pixels"),
    ],
)
def test_pixels_of_an_unknown_picture_are_refused(tmp_path, columns, said):
    raw = write(tmp_path / "raw", columns, one__npy=npy(FLAT))
    with pytest.raises(ValueError, match=said):
        run(raw, tmp_path / "out", layout="coco-17")


def test_several_people_keep_their_track_and_come_by_how_long_they_are_there(tmp_path):
    """AlphaPose's idx: person 7 is in two frames, person 3 in all, and a frame nobody lists is none."""
    people = [("0.jpg", 7), ("0.jpg", 3), ("1.jpg", 3), ("2.jpg", 7), ("2.jpg", 3), ("10.jpg", 3)]
    content = [{"image_id": f, "idx": i, "keypoints": np.full((17, 3), i / 10).ravel().tolist()} for f, i in people]
    found = run(write(tmp_path / "raw", "split=train", one__json=dumped(content)), tmp_path / "out", layout="coco-17")
    assert found.skeletons.bodies.tolist() == [2]
    score = found.skeletons.joints[0].reshape(2, 4, 17, 3)[:, :, 0, 2]
    np.testing.assert_allclose(score, [[0.3] * 4, [0.7, 0, 0.7, 0]], atol=1e-6)
    assert found.findings == []


def test_people_without_a_track_are_told_apart_by_order_and_that_is_said(tmp_path):
    frame = {"instances": [{"keypoints": pose.tolist()} for pose in FLAT[:2] / 1000]}
    raw = write(tmp_path / "raw", "split=train", one__json=dumped([frame, {"instances": []}, frame]))
    found = run(raw, tmp_path / "out", layout="coco-17")
    joints = found.skeletons.joints[0].reshape(2, 3, 17, 3)
    np.testing.assert_allclose(joints[1, 2, :, :2], FLAT[1] / 500 - 1, atol=1e-6)
    assert not joints[:, 1].any()
    assert "told apart by their order in each frame" in found.findings[0].found


def test_bodies_in_long_form_are_zero_where_no_row_has_them(tmp_path):
    lines = ["frame,body,joint,x,y,z"]
    lines += [f"{f},{b},{j},{f},{j / 10},1" for b, f in (("b", 1), ("b", 2), ("a", 2)) for j in range(20)]
    lines.remove("1,b,4,1,0.4,1")
    found = run(write(tmp_path / "raw", "split=train", one__csv="\n".join(lines).encode()), tmp_path / "out")
    joints = found.skeletons.joints[0].reshape(2, 2, 20, 3)
    assert not joints[1, 0].any() and joints[1, 1, 5].tolist() == [2, 0.5, 1]
    np.testing.assert_allclose(joints[0, 0, 4], [2, 0.4, 1], err_msg="a joint without a row has its first good value")
    assert [finding.found for finding in found.findings] == ["NaN or Inf in 1 frames"]


def test_a_body_in_no_frame_is_none_and_that_is_said(tmp_path):
    """Arrays are filled up with them, as here a clip of one body to two."""
    padded = npy(np.stack([BODY, np.zeros_like(BODY)]))
    found = run(write(tmp_path / "raw", "split=train", one__npy=padded, two__npy=npy(BODY)), tmp_path / "out")
    assert found.skeletons.bodies.tolist() == [1, 1]
    np.testing.assert_array_equal(found.skeletons.joints[0], found.skeletons.joints[1])
    assert [(f.file, f.found, f.done) for f in found.findings] == [
        ("one.npy", "1 of 2 bodies in no frame: not there", "kept")
    ]


def test_a_2d_body_is_there_by_its_place_and_not_by_its_score(tmp_path):
    there = np.concatenate([FLAT / (640, 480), SCORE[..., None]], axis=-1)
    nowhere = np.concatenate([np.zeros_like(FLAT), SCORE[..., None]], axis=-1)
    raw = write(tmp_path / "raw", "split=train", one__npy=npy(np.stack([nowhere, there])))
    skeletons = run(raw, tmp_path / "out", layout="coco-17").skeletons
    assert skeletons.bodies.tolist() == [1] and skeletons.image_points is not None
    np.testing.assert_allclose(skeletons.joints[0][..., 2], SCORE, atol=1e-6)
    np.testing.assert_allclose(skeletons.image_points[0], there[..., :2], atol=1e-6)


def bomb() -> bytes:
    """An archive of a few bytes whose array unpacks to more than a file may hold."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("joints.npy", "w") as member:
        for _ in range(272):
            member.write(bytes(1 << 20))
    return file.getvalue()


def promising() -> bytes:
    """A head that tells of more numbers than memory holds."""
    file = npy(np.zeros((1, 20, 3)))
    start = file.index(b"(1, 20, 3), }")
    wide = b"(999999999999, 20, 3), }"
    return file[:start] + wide + file[start + len(wide) :]


PICKLED = np.array([{"code": "runs"}], dtype=object)
REFUSED = {
    "a pickle": ("npy", npy(PICKLED), "holds objects (a pickle), which are not opened"),
    "a pickle in an archive": (
        "npz",
        npz(joints=PICKLED),
        "array joints: holds objects (a pickle), which are not opened",
    ),
    "a pickle itself": ("npy", pickle.dumps(BODY), "not a .npy file, but a pickle, which is not opened"),
    "an archive": ("npy", npz(joints=BODY), "not a .npy file, but a zip; is it a .npz?"),
    "an empty file": ("npy", b"", "an empty file"),
    "a text": ("npy", b"hello", "not a .npy file"),
    "numbers cut short": ("npy", npy(BODY)[:-240], "cut short: 2,160 of 2,400 bytes of numbers"),
    "a head cut short": ("npy", npy(BODY)[:60], "cut short: the header breaks off"),
    "a magic word alone": ("npy", npy(BODY)[:6], "cut short: the header breaks off"),
    "a head that promises too much": (
        "npy",
        promising(),
        "a header that claims 479,999,999,999,520 bytes of numbers; the file holds 480",
    ),
    "a damaged head": ("npy", npy(BODY).replace(b"}", b"[", 1), "a damaged header"),
    "a negative length": (
        "npy",
        npy(BODY).replace(b"(5, 20, 3), ", b"(-5, 20, 3),"),
        "a damaged header: shape [-5, 20, 3]",
    ),
    "an archive that unpacks to too much": ("npz", bomb(), "no clip is that large"),
    "a damaged archive": ("npz", npz(joints=BODY)[:-40], "not a readable .npz file"),
    "several arrays": ("npz", npz(a=BODY, b=BODY), "arrays a, b; wanted one, or one of joints, skeleton"),
    "text in an array": ("npy", npy(np.array([["a"]])), "wanted numbers"),
    "channels first": ("npy", npy(BODY.transpose(2, 0, 1)), r"shape [3, 5, 20], wanted [frames, joints, 2 or 3]"),
    "other joints": ("npy", npy(BODY[:, :15]), "15 joints (shape [1, 5, 15, 3]), wanted 20: kinect-v1"),
    "another width": ("npy", npy(BODY.reshape(5, 60)[:, 1:]), "59 numbers a frame, wanted 2 or 3 for each of 20"),
    "a 2D pose": ("npy", npy(BODY[..., :2]), "a 2D pose among 3D ones"),
    "no json": ("json", b"{", "not a JSON file"),
    "json without end": ("json", b"[" * 100_000, "not a JSON file"),
    "json of OpenPose": ("json", dumped({"people": [{"pose_keypoints_2d": [1]}]}), "OpenPose's form: a file a frame"),
    "json of something": ("json", dumped({"fps": 30, "poses": []}), "an object with fps, poses; wanted one of joints"),
    "json of uneven lists": ("json", dumped([[1, 2], [3]]), "lists of different lengths"),
    "csv that goes back": ("csv", rows(BODY, numbered=0).replace(b"\n4,", b"\n3,"), "frame numbers that do not go up"),
    "csv of text": ("csv", rows(BODY).replace(b"\n", b"x\n"), "is no number"),
    "csv that breaks off": ("csv", rows(BODY)[:-30], "cells, the first 60"),
    "csv with a joint too few": ("csv", long(BODY[:, 1:], NUMBERS[1:]), "19 joints, numbered 1 to 19; wanted 0 to 19"),
    "csv joints from 2": ("csv", long(BODY, [str(number) for number in range(2, 22)]), "20 joints, numbered 2 to 21"),
    "csv of a strange joint": ("csv", long(BODY, ["hed", *KINECT_V1.joints[1:]]), "no joint 'hed': did you mean head?"),
    "csv with a joint twice": ("csv", long(BODY, NUMBERS).replace(b"\n2,", b"\n1,"), "two rows for one joint"),
    "csv of nothing": ("csv", b"\n\n", "an empty file"),
    "a video": ("mp4", b"", "a .mp4; skeletons are .npy, .npz, .json, .csv, .txt"),
}


@pytest.mark.parametrize(("suffix", "content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_skeleton_is_left_out_with_what_was_found(tmp_path, suffix, content, said):
    good = {f"good{number}__npy": npy(BODY) for number in range(2)}
    found = run(write(tmp_path / "raw", "split=train", **good, **{f"odd__{suffix}": content}), tmp_path / "out")
    assert len(found.skeletons.names) == 2
    assert [(finding.file, finding.done) for finding in found.findings] == [(f"odd.{suffix}", "left out")]
    assert said in found.findings[0].found


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        (17, r"clips of 17 joints may be coco-17 or h36m-17; say which with --layout"),
        (33, r"clips of 33 joints; known are 20 \(kinect-v1\).*17 \(h36m-17\)"),
    ],
)
def test_joints_that_mean_no_one_layout_are_asked_for(tmp_path, joints, said):
    with pytest.raises(ValueError, match=said):
        run(write(tmp_path / "raw", "split=train", one__npy=npy(np.ones((4, joints, 3)))), tmp_path / "out")


def test_bodies_taller_than_a_house_are_remarked_on_once(tmp_path):
    tall = npy(BODY * 1000)
    found = run(write(tmp_path / "raw", "split=train", a__npy=tall, b__npy=npy(BODY), c__npy=tall), tmp_path / "out")
    said = [warning for warning in found.warnings if "millimetres" in warning]
    assert said == ["2 of 3 clips have a body of more than 10 metres: millimetres (divide by 1000) or pixels, it seems"]
    assert [(finding.file, finding.done) for finding in found.findings] == [("a.npy", "kept"), ("c.npy", "kept")]
    np.testing.assert_allclose(found.skeletons.joints[0], BODY * 1000, rtol=1e-6)
