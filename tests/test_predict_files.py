"""Skeleton files to clips: what `mmcl prepare` makes of each format, of files called anyhow, ahead and in order."""

from __future__ import annotations

import os
import pickle
from multiprocessing import active_children
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from scipy.io import savemat

from mmcl.cache.skeletons import Skeletons
from mmcl.pipeline.datasets import open_dataset
from mmcl.pipeline.prediction.answers import batches
from mmcl.pipeline.prediction.files import files_named
from mmcl.pipeline.prediction.reader import Read, Unread, Wanted, read_file
from mmcl.pipeline.prediction.reading import AHEAD, BLOCK, reading
from mmcl.pipeline.preparation.layouts import COCO_17, H36M_17, KINECT_V1, KINECT_V1_UTD, KINECT_V2
from mmcl.pipeline.preparation.prepare import prepare
from mmcl.pipeline.preparation.raw import RawFile
from mmcl.tests.ntu_files import FIRST_ID, acted, seen, standing, write_skeleton
from mmcl.tests.test_ctrgcn_npz import clip as ctrgcn_clip
from mmcl.tests.test_ctrgcn_npz import write as write_ctrgcn
from mmcl.tests.test_own_files import BODY, FLAT, IMAGE, METRES, SCORE, dumped, npy, rows
from mmcl.tests.test_prepare import write_nw_ucla
from mmcl.tests.test_pyskl import poses_2d, poses_3d, write_2d
from mmcl.tests.test_sysu import write_clip as write_sysu

V1, V2 = Wanted(KINECT_V1, "metres", 1), Wanted(KINECT_V2, "metres", 2)
UTD, COCO = Wanted(KINECT_V1_UTD, "metres", 1), Wanted(COCO_17, "image", 2)


def read(path: Path, wanted: Wanted) -> list[Read | Unread]:
    return list(read_file(RawFile(path), wanted))


def clips(path: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    """The joints of a file's clips by name, none of which may be bad."""
    found = read(path, wanted)
    assert [one for one in found if isinstance(one, Unread)] == []
    return {one.clip: one.joints for one in found if isinstance(one, Read)}


def reason(path: Path, wanted: Wanted) -> str:
    (found,) = read(path, wanted)
    assert isinstance(found, Unread) and found.file == str(path)
    return found.reason


def prepared(name: str, raw: Path, out: Path) -> Skeletons:
    return prepare(name, open_dataset(name, raw), out, lambda done, total: None, jobs=1).skeletons


def assert_as_prepared(found: dict[str, np.ndarray], skeletons: Skeletons) -> None:
    """Bit for bit the clips of the skeleton cache, by name."""
    assert set(found) == set(skeletons.names)
    for row, name in enumerate(skeletons.names):
        bodies = int(skeletons.bodies[row])
        np.testing.assert_array_equal(found[name], skeletons.joints[row].reshape(bodies, -1, *found[name].shape[2:]))


@pytest.mark.parametrize("name", ["ntu60", "ntu120"])
def test_ntus_files_have_the_published_preprocessing(name, tmp_path):
    """Of several bodies the one or two who act, as `mmcl prepare` has them."""
    noise = [[*frame, seen(standing(2.0), str(FIRST_ID + 9))] if at < 5 else frame for at, frame in enumerate(acted(7))]
    for seed, frames in enumerate([acted(0), acted(7), noise], 1):
        write_skeleton(tmp_path / "raw", f"S001C001P001R001A{seed:03}", frames)
    files = sorted((tmp_path / "raw").iterdir())
    found = {name: joints for file in files for name, joints in clips(file, V2).items()}
    assert [len(joints) for joints in found.values()] == [1, 2, 2]
    assert_as_prepared(found, prepared(name, tmp_path / "raw", tmp_path / "out"))


def test_the_other_data_sets_files_are_read_as_prepare_reads_them(tmp_path):
    """NW-UCLA's JSON, UTD-MHAD's and SYSU's MATLAB files, PYSKL's pickles in 3D and 2D, CTR-GCN's npz."""
    ucla, utd, sysu = tmp_path / "ucla", tmp_path / "utd", tmp_path / "sysu"
    write_nw_ucla(ucla, "a01_s01_e00_v01", 9, 1)
    assert_as_prepared(clips(ucla / "a01_s01_e00_v01.json", V1), prepared("nw-ucla", ucla, tmp_path / "1"))
    utd.mkdir()
    savemat(utd / "a2_s1_t1_skeleton.mat", {"d_skel": np.random.default_rng(0).normal(size=(20, 3, 7))})
    found = clips(utd / "a2_s1_t1_skeleton.mat", UTD)
    assert_as_prepared({"a2_s1_t1": found["a2_s1_t1_skeleton"]}, prepared("utd-mhad", utd, tmp_path / "2"))
    file = write_sysu(sysu, "li", 3, np.random.default_rng(0).normal(size=(20, 3, 7)))
    assert_as_prepared({"li_video3": clips(file, V1)["sklWorld"]}, prepared("sysu", sysu, tmp_path / "3"))
    names = ("S001C001P001R001A001", "S001C002P003R001A002")
    solid = [poses_3d(name, bodies) for bodies, name in enumerate(names, 1)]
    content = {"split": {"train": [names[0]], "val": [names[1]]}, "annotations": solid}
    (tmp_path / "3d.pkl").write_bytes(pickle.dumps(content))
    assert_as_prepared(clips(tmp_path / "3d.pkl", V2), prepared("pyskl", tmp_path / "3d.pkl", tmp_path / "4"))
    flat = write_2d(tmp_path / "2d.pkl", poses_2d("one", 0), poses_2d("two", 1, 2))
    assert_as_prepared(clips(flat, COCO), prepared("pyskl", flat, tmp_path / "5"))
    file = write_ctrgcn(
        tmp_path / "NTU60_CS.npz", [(4, ctrgcn_clip(5)), (9, ctrgcn_clip(7, "other"))], [(0, ctrgcn_clip(3))]
    )
    assert_as_prepared(clips(file, V2), prepared("ctrgcn", file, tmp_path / "6"))


@pytest.mark.parametrize(("suffix", "content"), METRES.values(), ids=METRES)
def test_every_form_of_ones_own_gives_the_same_metres(suffix, content, tmp_path):
    (tmp_path / f"one.{suffix}").write_bytes(content)
    np.testing.assert_allclose(clips(tmp_path / f"one.{suffix}", V1)["one"], BODY[None], atol=1e-6)


@pytest.mark.parametrize(("suffix", "content"), IMAGE.values(), ids=IMAGE)
def test_pixels_without_a_pictures_size_are_refused_with_the_reason(suffix, content, tmp_path):
    (tmp_path / f"one.{suffix}").write_bytes(content)
    assert "if pixels, add its width and height" in reason(tmp_path / f"one.{suffix}", COCO)


def test_2d_poses_are_shares_of_their_picture(tmp_path):
    """The picture's size is what the JSON file says; shares need none."""
    path = tmp_path / "pixels.json"
    path.write_bytes(
        dumped({"width": 640, "height": 480, "keypoints": FLAT.tolist(), "keypoint_scores": SCORE.tolist()})
    )
    wanted = np.concatenate([FLAT / (320, 240) - 1, SCORE[..., None]], axis=-1)
    np.testing.assert_allclose(clips(path, COCO)["pixels"], wanted[None], atol=1e-5)
    (tmp_path / "shares.npy").write_bytes(npy(np.concatenate([FLAT / (640, 480), SCORE[..., None]], axis=-1)))
    np.testing.assert_allclose(clips(tmp_path / "shares.npy", COCO)["shares"], wanted[None], atol=1e-5)


def test_a_file_need_not_be_called_as_its_data_set_calls_it(tmp_path):
    """Neither its name nor a label is wanted: both are of somebody else's classes."""
    write_skeleton(tmp_path, "kitchen, morning", acted(0, 20))
    savemat(tmp_path / "any.mat", {"SW": np.random.default_rng(0).normal(size=(20, 3, 4))})
    unlabelled = [{"keypoint": np.ones((1, 4, 25, 3), np.float32), "total_frames": 4}]
    (tmp_path / "new.pkl").write_bytes(pickle.dumps(unlabelled))
    assert list(clips(tmp_path / "kitchen, morning.skeleton", V2)) == ["kitchen, morning"]
    assert list(clips(tmp_path / "any.mat", V1)) == ["any"]
    assert list(clips(tmp_path / "new.pkl", V2)) == ["clip 1"]


def test_a_zip_is_read_as_it_is(tmp_path):
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("b/two.npy", npy(BODY))
        archive.writestr("a/one.csv", rows(BODY))
        archive.writestr("a/bad.json", "{")
        archive.writestr("a/poses.pkl", pickle.dumps([]))
        archive.writestr("notes.md", "nothing")
    found = read(tmp_path / "all.zip", V1)
    assert [(one.file.rpartition(":")[2], one.clip, type(one)) for one in found] == [
        ("a/bad.json", "bad", Unread),
        ("a/one.csv", "one", Read),
        ("a/poses.pkl", "poses", Unread),
        ("b/two.npy", "two", Read),
    ]
    assert "unpack it" in getattr(found[2], "reason", "")


LAYOUTS = {
    "a .skeleton for Kinect v1": (V1, "x.skeleton", None, "25 joints (kinect-v2); this run wants 20 (kinect-v1)"),
    "CSV rows of another layout": (V1, "x.csv", rows(np.ones((3, 25, 3))), "25 joints (kinect-v2); this run wants 20"),
    "an array of another layout": (V2, "x.npy", npy(BODY), "20 joints (kinect-v1 or kinect-v1-utd); this run wants 25"),
    "joints of no layout": (V2, "x.npy", npy(np.ones((3, 19, 3))), "19 joints; this run wants 25 (kinect-v2)"),
    "2D where metres are wanted": (
        Wanted(H36M_17, "metres", 1), "x.npy", npy(FLAT), "a 2D pose; this run wants 3D joints in metres"
    ),
    "NW-UCLA's order for UTD's": (
        UTD, "a01_s01_e00_v01.json", dumped(BODY.tolist()), "20 joints (kinect-v1); this run wants 20 (kinect-v1-utd)"
    ),
    "metres where 2D is wanted": (
        Wanted(KINECT_V2, "image", 2), "x.skeleton", None, "3D joints in metres; this run wants 2D poses"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "name", "content", "said"), LAYOUTS.values(), ids=LAYOUTS)
def test_another_layout_is_one_clear_line(wanted, name, content, said, tmp_path):
    path = tmp_path / name
    if content is None:
        write_skeleton(tmp_path, "x", acted(0, 12))
    else:
        path.write_bytes(content)
    assert reason(path, wanted).startswith(said)


def test_a_pickles_and_an_npz_files_layout_is_theirs(tmp_path):
    flat = write_2d(tmp_path / "2d.pkl", poses_2d("one", 0), poses_2d("two", 1))
    assert reason(flat, V2) == "17 joints (coco-17); this run wants 25 (kinect-v2)"
    file = write_ctrgcn(tmp_path / "NTU60_CS.npz", [(4, ctrgcn_clip(5))], [(0, ctrgcn_clip(3))])
    assert reason(file, V1) == "25 joints (kinect-v2); this run wants 20 (kinect-v1)"


def test_more_bodies_than_the_network_has_room_for_are_refused(tmp_path):
    """Which of them act is not guessed."""
    (tmp_path / "two.npy").write_bytes(npy(np.stack([BODY, BODY + 1])))
    assert reason(tmp_path / "two.npy", V1) == "2 bodies; this run has room for 1: keep those that act"


def test_nan_is_mended_as_prepare_mends_it_and_said(tmp_path):
    joints = BODY.astype(np.float32)
    joints[2, 4, 0] = np.nan
    (tmp_path / "nan.npy").write_bytes(npy(joints))
    (found,) = read(tmp_path / "nan.npy", V1)
    assert isinstance(found, Read)
    assert found.notes == ("NaN or Inf in 1 frames; last good value of the joint kept",)
    np.testing.assert_array_equal(found.joints[0, 2, 4], joints[1, 4])


FILLED_UP = [[np.zeros_like(BODY)], [np.full_like(BODY, np.nan), np.zeros_like(BODY)]]


@pytest.mark.parametrize("others", FILLED_UP, ids=["zero", "NaN and zero"])
def test_a_body_in_no_frame_is_none(others, tmp_path):
    """Arrays are filled up with them; a network would take it for a second person."""
    (tmp_path / "one.npy").write_bytes(npy(np.stack([others[0], BODY, *others[1:]])))
    (found,) = read(tmp_path / "one.npy", V1)
    assert isinstance(found, Read)
    np.testing.assert_array_equal(found.joints, BODY[None].astype(np.float32))
    assert found.notes == (f"{len(others)} of {len(others) + 1} bodies in no frame: not there",)


def test_a_clip_that_is_zero_once_it_is_mended_is_refused(tmp_path):
    """Its joints have no number in one channel: nothing of them can be kept."""
    joints = BODY.copy()
    joints[..., 0] = np.nan
    (tmp_path / "odd.npy").write_bytes(npy(joints))
    assert reason(tmp_path / "odd.npy", V1) == "all joints are zero or without a number"


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


BAD = {
    "truncated": ("x.npy", _cut(npy(BODY)), "cut short"),
    "no JSON": ("x.json", b"{", "not a JSON file"),
    "empty": ("x.csv", b"", "an empty file"),
    "all NaN": ("x.npy", npy(np.full((4, 20, 3), np.nan)), "not one finite coordinate"),
    "all zero, of two": ("x.npy", npy(np.zeros((2, 4, 20, 3))), "all coordinates are zero"),
    "all zero": ("x.npy", npy(np.zeros((4, 20, 3))), "all coordinates are zero"),
    "no frames": ("x.npy", npy(np.zeros((0, 20, 3))), "no frames"),
    "a pickle of code": ("x.pkl", b"cos\nsystem\n(S'true'\ntR.", "not a pickle of arrays"),
    "half a zip": ("x.zip", b"PK\3\4 and no more", "not a readable zip"),
    "no MATLAB file": ("x.mat", b"nothing", "not a readable MATLAB file"),
    "another kind": ("x.png", b"\x89PNG", "a .png; skeletons are .skeleton"),
    "not there": ("x.npy", None, "No such file or directory"),
}


@pytest.mark.parametrize(("name", "content", "said"), BAD.values(), ids=BAD)
def test_a_bad_file_is_its_reason_and_no_exception(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name, V1).startswith(said)


def test_what_is_no_file_is_said_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    (tmp_path / "folder.npz").mkdir()
    assert reason(tmp_path / "pipe.pkl", V1) == "a device or a pipe, wanted a file"
    assert reason(tmp_path / "folder.npz", V1) == "a folder, wanted a file"


# -- which files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Skeletons in folders, with what lies beside skeletons."""
    for name in ("b.npy", "a.json", "sub/c.csv", "sub/deep/a1_s1_t1_skeleton.mat", "sub/sklWorld.mat", "zipped.zip"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(b"")
    for name in ("samples.csv", "video.mp4", ".hidden.npy", "sub/a1_s1_t1_inertial.mat", "README.md"):
        (tmp_path / "tree" / name).write_bytes(b"")
    (tmp_path / "tree" / "sub" / "deep" / "back").symlink_to(tmp_path / "tree" / "sub")
    return tmp_path / "tree"


def named(*words: object, stdin: bytes = b"") -> list[str]:
    """The names of the files, or the reason for what is none."""
    found = files_named([*map(str, words)], stdin.splitlines(keepends=True)).paths
    return [one.reason if isinstance(one, Unread) else one.name for one in found]


BELOW = ["a.json", "b.npy", "c.csv", "a1_s1_t1_skeleton.mat", "sklWorld.mat", "zipped.zip"]


def test_a_folder_is_all_skeleton_files_below_it_by_path(tree):
    """What a skeleton does not end in, a table, UTD-MHAD's other sensors and hidden files are passed by."""
    assert named(tree) == BELOW


def test_texts_beside_skeletons_are_about_them_and_alone_they_are_skeletons(tmp_path):
    """UTD-MHAD's folder holds Skeleton_joint_order.txt, and many a folder a README.txt."""
    for name in ("a.npy", "README.txt"):
        (tmp_path / name).write_text("")
    assert list(files_named([str(tmp_path)], ()).paths) == [tmp_path / "a.npy"]
    (tmp_path / "a.npy").unlink()
    assert list(files_named([str(tmp_path)], ()).paths) == [tmp_path / "README.txt"]


def test_a_quoted_glob_is_expanded_here_and_a_name_that_is_there_is_no_glob(tree):
    assert named(tree / "*.npy") == ["b.npy"]
    assert named(tree / "**" / "*.csv") == ["samples.csv", "c.csv"]
    (tree / "x[1].npy").write_bytes(b"")
    (tree / "x1.npy").write_bytes(b"")
    assert named(tree / "x[1].npy") == ["x[1].npy"]


def test_a_path_that_is_given_twice_counts_once(tree):
    assert named(tree / "c.csv", tree / "sub" / ".." / "c.csv", tree / "b.npy", tree) == [
        "c.csv",
        "b.npy",
        "a.json",
        *BELOW[2:],
    ]


def test_standard_input_names_a_file_or_a_folder_a_line(tree):
    stdin = f"{tree}/b.npy\r\n\n{tree}/sub\n{tree}/nothere.npy\n".encode()
    assert named("-", stdin=stdin) == ["b.npy", "c.csv", "a1_s1_t1_skeleton.mat", "sklWorld.mat", "nothere.npy"]


def test_a_folder_that_cannot_be_looked_into_is_its_reason_and_the_rest_goes_on(tree, monkeypatch):
    """Whether a word or a line of standard input names what is above it."""

    def look(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    listed = os.scandir
    monkeypatch.setattr(os, "scandir", look)
    rest = [*BELOW[:3], *BELOW[4:]]
    assert named(tree) == [*rest, "Permission denied"]
    assert named("-", stdin=f"{tree}/sub/deep\n{tree}\n".encode()) == ["Permission denied", *rest, "Permission denied"]


def test_a_line_that_is_no_path_is_shown_shortened_with_its_reason(tree):
    """Such lines would fill the pipe to who reads the files."""
    stdin = f"{tree}/b.npy\0{tree}/b.npy\n{'x' * 4097}\n{'x' * 4096}\n{tree}/b.npy\n".encode()
    *_, last = found = list(files_named(["-"], stdin.splitlines(keepends=True)).paths)
    nul, long, longest = found[:3]
    assert isinstance(nul, Unread) and nul.reason == "names a line are wanted, not NUL bytes"
    assert isinstance(long, Unread) and long.reason == "a name of 4,097 bytes; no path is longer than 4,096"
    assert len(nul.file) == len(long.file) == 63
    assert (longest, last) == (Path("x" * 4096), tree / "b.npy")


def test_words_that_mean_no_file_are_wrong_use(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"\*\.skeleton: no file matches"):
        named(tree / "*.skeleton")
    with pytest.raises(ValueError, match="empty: a folder without a skeleton file"):
        named(tmp_path / "empty")
    with pytest.raises(ValueError, match="standard input names none"):
        named("-", stdin=b"\n\n")


# -- read ahead


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Files of one clip that name themselves by their first number, and a bad one among them."""
    files = []
    for number in range(3 * BLOCK * AHEAD * 2 + 3):
        path = tmp_path / f"{number:04}.npy"
        path.write_bytes(npy(BODY + number) if number != 5 else b"spoilt")
        files.append(path)
    return files


def test_files_come_in_their_order_whoever_reads_them(many):
    with reading(many, V1, jobs=2) as found:
        outcomes = list(found)
    assert [one.file for one in outcomes] == list(map(str, many))
    for number, one in enumerate(outcomes):
        assert isinstance(one, Unread if number == 5 else Read)
        if isinstance(one, Read):
            np.testing.assert_allclose(one.joints[0], BODY + number, rtol=1e-6)


def test_what_is_no_file_comes_at_its_place(many):
    lines = [Unread(f"line {number}", "", "no name") for number in range(BLOCK + 1)]
    with reading([many[0], *lines, many[1], lines[0]], V1, jobs=2) as found:
        assert [one.file for one in found] == [
            str(many[0]),
            *(line.file for line in lines),
            str(many[1]),
            "line 0",
        ]


def test_few_files_are_asked_for_before_the_first_is_taken(many):
    asked = []
    with reading((asked.append(path) or path for path in many), V1, jobs=1) as found:
        next(found)
        assert len(asked) <= BLOCK * AHEAD


def test_a_reader_that_is_killed_costs_the_file_that_it_was_at(many, tmp_path, monkeypatch):
    """That file has its reason, all others are read."""
    with reading(many, V1, jobs=1) as found:
        outcomes = [next(found)]
        (reader,) = active_children()
        reader.kill()
        reader.join()
        outcomes += found
    assert [one.file for one in outcomes] == list(map(str, many))
    crashed = [one.reason for one in outcomes if isinstance(one, Unread) and one.reason.startswith("crashed")]
    assert crashed == ["crashed: the process that read it died of signal 9 (Killed)"]


def test_no_reader_is_left_behind(many):
    with reading(many, V1, jobs=2) as found:
        next(found)
        assert active_children()
    assert not active_children()


def test_a_batch_has_64_clips_as_in_evaluation_and_what_is_bad_before_it_is_said_at_once():
    good = Read("a", "a", np.zeros((1, 1, 20, 3), np.float32))
    bad = Unread("b", "", "spoilt")
    assert [len(batch) for batch in batches([bad, bad, *[good] * 70, bad])] == [1, 1, 64, 7]


def test_long_clips_make_short_batches():
    """Memory is bounded by what clips hold, not by how many there are."""
    long = Read("a", "a", np.zeros((1, 1 << 18, 20, 3), np.float32))
    assert [len(batch) for batch in batches([long] * 4)] == [2, 2]
