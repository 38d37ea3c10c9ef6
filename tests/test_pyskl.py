"""PYSKL pickles to a skeleton cache: 3D and 2D, splits by name, padding dropped, odd annotations named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import OUT, TEST, TRAIN, read_skeletons
from mmcl.pipeline.datasets.ntu_classes import CLASSES
from mmcl.pipeline.datasets.pyskl import BODIES, EMPTY, NOT_INTERCHANGEABLE, ZEROS_120, Pyskl
from mmcl.pipeline.preparation.dataset import RawClip
from mmcl.pipeline.preparation.prepare import Prepared, prepare

NAMES = ("S001C001P001R001A001", "S001C002P003R001A002", "S002C003P003R002A060")


def run(path: Path) -> Prepared:
    return prepare("mine", Pyskl(path), path.parent / "out", lambda done, total: None)


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def poses_3d(name: str, bodies: int = 1, frames: int = 6) -> dict:
    """An annotation as PYSKL's script for the `.skeleton` files writes it."""
    keypoint = np.random.default_rng(frames).normal(size=(bodies, frames, 25, 3)).astype(np.float16)
    return {"frame_dir": name, "label": int(name[-3:]) - 1, "keypoint": keypoint, "total_frames": frames}


def poses_2d(name: str, label: int, bodies: int = 1, frames: int = 5) -> dict:
    """An annotation as HRNet's poses are published: 1080p pixels in half precision."""
    rng = np.random.default_rng(frames)
    return {
        "frame_dir": name,
        "label": label,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": rng.uniform(1, 1000, (bodies, frames, 17, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0, 1, (bodies, frames, 17)).astype(np.float16),
    }


def split_of(annotations: list[dict]) -> dict[str, list[str]]:
    names = [annotation["frame_dir"] for annotation in annotations]
    return {"train": names[:1], "val": names[1:]}


def write_2d(path: Path, *annotations: dict) -> Path:
    return write(path, {"split": split_of(list(annotations)), "annotations": list(annotations)})


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_ntus_3d_skeletons_keep_joints_names_splits_and_columns(protocol, tmp_path):
    annotations = [poses_3d(NAMES[0], frames=4), poses_3d(NAMES[1], bodies=2), poses_3d(NAMES[2])]
    split = {
        "xsub_train": [NAMES[0]],
        "xsub_val": [NAMES[1], NAMES[2]],
        "xview_train": [NAMES[1], NAMES[2]],
        "xview_val": [NAMES[0]],
    }
    content = {"split": split, "annotations": annotations}
    found = run(write(tmp_path / "ntu60_3danno.pkl", content, protocol))
    cache = read_skeletons(tmp_path / "out" / "skeletons.h5")
    assert cache.names == NAMES
    assert cache.classes == CLASSES[:60]
    assert cache.labels.tolist() == [0, 1, 59]
    assert cache.bodies.tolist() == [1, 2, 1]
    assert (cache.layout.name, cache.coordinates, cache.image_points) == ("kinect-v2", "metres", None)
    for row, annotation in enumerate(annotations):
        wanted = annotation["keypoint"].reshape(-1, 25, 3).astype(np.float32)
        np.testing.assert_array_equal(cache.joints[row], wanted)
    assert {name: (split.sides.tolist(), split.body_rule) for name, split in cache.splits.items()} == {
        "xsub": ([TRAIN, TEST, TEST], "zero"),
        "xview": ([TEST, TRAIN, TRAIN], "zero"),
    }
    assert {name: values.tolist() for name, values in cache.columns.items()} == {
        "setup": [1, 1, 2],
        "camera": [1, 2, 3],
        "subject": [1, 3, 3],
        "trial": [1, 1, 2],
    }
    assert found.findings == []
    assert NOT_INTERCHANGEABLE in found.warnings
    assert "xsub: 1 train / 2 test, published are 40,091 / 16,487" in found.warnings


def test_ntu120_has_its_classes_and_is_told_that_absent_bodies_are_zeros(tmp_path):
    annotations = [poses_3d("S018C001P041R001A061"), poses_3d("S019C001P008R001A120")]
    split = {"xset_train": ["S018C001P041R001A061"], "xset_val": ["S019C001P008R001A120"]}
    found = run(write(tmp_path / "ntu120_3danno.pkl", {"split": split, "annotations": annotations}))
    assert found.skeletons.classes == CLASSES
    assert found.skeletons.labels.tolist() == [60, 119]
    assert found.skeletons.splits["xset"].body_rule == "zero"
    assert ZEROS_120 in found.warnings
    assert "xset: 1 train / 1 test, published are 54,468 / 59,477" in found.warnings


def test_bodies_that_only_fill_up_are_not_stored_and_are_counted(tmp_path):
    padded = poses_3d(NAMES[0], bodies=3)
    padded["keypoint"][1] = 0
    found = run(write_2d(tmp_path / "a.pkl", padded, poses_3d(NAMES[1])))
    assert found.skeletons.bodies.tolist() == [2, 1]
    np.testing.assert_array_equal(
        found.skeletons.joints[0], padded["keypoint"][[0, 2]].reshape(-1, 25, 3).astype(np.float32)
    )
    assert found.counts == {BODIES: 4, EMPTY: 1}


def test_the_first_body_stays_whatever_it_is(tmp_path):
    padded = poses_3d(NAMES[0], bodies=2)
    padded["keypoint"][0] = 0
    assert run(write_2d(tmp_path / "a.pkl", padded, poses_3d(NAMES[1]))).skeletons.bodies.tolist() == [2, 1]


def test_2d_poses_are_coordinates_of_the_image_with_scores(tmp_path):
    pose = poses_2d("v_a_g01", 2)
    pose["keypoint"][0, 0, 0] = (960, 270)
    pose["keypoint_score"][0, 0, 0] = 0.5
    pose["keypoint"][0, 1, 3] = 0
    cache = run(write_2d(tmp_path / "ucf.pkl", pose, poses_2d("v_b_g02", 0))).skeletons
    assert (cache.layout.name, cache.coordinates) == ("coco-17", "image")
    assert cache.classes == ("class 0", "class 1", "class 2")
    np.testing.assert_allclose(cache.joints[0][0, 0], [0, -0.5, 0.5])
    np.testing.assert_array_equal(cache.joints[0][1, 3], [0, 0, 0])
    shares = pose["keypoint"][0].astype(np.float32) / np.array([1920, 1080], np.float32)
    assert cache.image_points is not None
    np.testing.assert_array_equal(cache.image_points[0], shares)
    seen = np.delete(np.arange(5 * 17), 17 + 3)
    np.testing.assert_allclose(cache.joints[0].reshape(-1, 3)[seen, :2], 2 * shares.reshape(-1, 2)[seen] - 1)
    np.testing.assert_array_equal(cache.joints[0].reshape(-1, 3)[seen, 2], pose["keypoint_score"].reshape(-1)[seen])


def test_2d_poses_without_scores_are_sure_where_they_are(tmp_path):
    pose = poses_2d("a", 0)
    del pose["keypoint_score"]
    pose["keypoint"][0, 2] = 0
    scores = run(write_2d(tmp_path / "a.pkl", pose, poses_2d("b", 0))).skeletons.joints[0][..., 2]
    assert scores[2].tolist() == [0] * 17
    assert set(scores[[0, 1, 3, 4]].ravel()) == {1}


def test_2d_poses_of_ntu_have_its_classes_but_no_published_counts(tmp_path):
    poses = [poses_2d(name, int(name[-3:]) - 1) for name in NAMES]
    found = run(write_2d(tmp_path / "ntu60_hrnet.pkl", *poses))
    assert found.skeletons.classes == CLASSES[:60]
    assert found.skeletons.columns["camera"].tolist() == [1, 2, 3]
    assert not any("published" in warning or "interchangeable" in warning for warning in found.warnings)


def test_many_clips_of_one_file_are_all_there(tmp_path):
    """More than are read at a time, each with its own joints."""
    annotations = [poses_2d(f"clip{number:03}", number % 4, frames=1 + number) for number in range(70)]
    found = run(write_2d(tmp_path / "many.pkl", *annotations)).skeletons
    assert found.names == tuple(f"clip{number:03}" for number in range(70))
    assert found.frames.tolist() == list(range(1, 71))
    assert found.labels.tolist() == [number % 4 for number in range(70)]


def test_sides_that_change_places_are_read_again(tmp_path):
    """The older form says by its files' names which clips train."""
    for side, name in (("train", "a"), ("val", "b")):
        write(tmp_path / f"set_{side}.pkl", [poses_2d(name, 0)])
    first = run(tmp_path / "set_train.pkl").skeletons
    for source, target in (("set_train", "aside"), ("set_val", "set_train"), ("aside", "set_val")):
        (tmp_path / f"{source}.pkl").rename(tmp_path / f"{target}.pkl")
    again = run(tmp_path / "set_val.pkl")
    sides = [dict(zip(one.names, one.splits["given"].sides.tolist(), strict=True)) for one in (first, again.skeletons)]
    assert sides == [{"a": TRAIN, "b": TEST}, {"a": TEST, "b": TRAIN}]


def test_findings_tell_clips_apart_by_their_whole_names(tmp_path):
    odd = [poses_2d(name, 0) | {"keypoint": np.zeros((1, 5, 9, 2))} for name in ("a/3", "b/3")]
    found = run(write_2d(tmp_path / "mine.pkl", poses_2d("x", 0), poses_2d("y", 0), *odd))
    assert [finding.file for finding in found.findings] == ["a/3", "b/3"]


def test_numbered_splits_and_test_sides_are_pairs_too(tmp_path):
    poses = [poses_2d(name, 0) for name in "abc"]
    split = {"train1": ["a"], "test1": ["b"], "train2": ["b", "c"], "test2": ["a"]}
    cache = run(write(tmp_path / "hmdb.pkl", {"split": split, "annotations": poses})).skeletons
    sides = {name: split.sides.tolist() for name, split in cache.splits.items()}
    assert sides == {"given1": [TRAIN, TEST, OUT], "given2": [TEST, TRAIN, TRAIN]}


def test_lists_that_make_no_split_and_names_without_a_clip_are_said(tmp_path):
    poses = [poses_2d(name, 0) for name in "abc"]
    split = {"sub_train": ["a", "gone"], "sub_val": ["b"], "sub_test": ["c", "lost"], "all": ["a"], "x_train": ["a"]}
    found = run(write(tmp_path / "a.pkl", {"split": split, "annotations": poses}))
    assert {name: split.sides.tolist() for name, split in found.skeletons.splits.items()} == {"sub": [TRAIN, OUT, TEST]}
    warnings = "\n".join(found.warnings)
    assert "split sub names 2 clips without an annotation, such as gone" in warnings
    for unused in ("sub_val", "all", "x_train"):
        assert f"list {unused} of the file belongs to no pair of sides; not used" in warnings


def test_the_older_form_is_a_file_a_side(tmp_path):
    write(tmp_path / "ntu60_xsub_val.pkl", [poses_2d(NAMES[1], 1)])
    train = write(tmp_path / "ntu60_xsub_train.pkl", [poses_2d(NAMES[0], 0), poses_2d(NAMES[2], 59)])
    found = run(train).skeletons
    assert found.names == (NAMES[0], NAMES[2], NAMES[1])
    assert {name: split.sides.tolist() for name, split in found.splits.items()} == {"xsub": [TRAIN, TRAIN, TEST]}
    write(tmp_path / "gym_train.pkl", [poses_2d("a", 0)])
    val = write(tmp_path / "gym_val.pkl", [poses_2d("b", 0)])
    assert list(Pyskl(val).facts.splits) == ["given"]


def test_one_side_alone_is_refused(tmp_path):
    for name in ("gym_train.pkl", "gym.pkl"):
        with pytest.raises(ValueError, match=r"one side of a split; wanted beside it: NAME_train\.pkl and"):
            Pyskl(write(tmp_path / name, [poses_2d("a", 0)]))


def spoilt(name: str, **fields: object) -> dict:
    return {key: value for key, value in (poses_2d(name, 0) | fields).items() if value is not None}


def test_an_odd_annotation_is_named_and_the_others_are_kept(tmp_path):
    keypoint = poses_2d("x", 0)["keypoint"]
    odd = {
        "flat": (spoilt("flat", keypoint=keypoint[0]), "keypoint of shape [5, 17, 2], wanted [bodies, frames, 17, 2]"),
        "joints": (spoilt("joints", keypoint=np.ones((1, 5, 18, 2), np.float16)), "keypoint of shape [1, 5, 18, 2]"),
        "none": (spoilt("none", keypoint=keypoint[:, :0], total_frames=0), "no frames"),
        "endless": (spoilt("endless", keypoint=np.zeros((0, 5, 17, 2))), "no frames"),
        "absent": (spoilt("absent", keypoint=None), "no 'keypoint' in it"),
        "text": (spoilt("text", keypoint="no"), "keypoint is str; wanted an array of numbers"),
        "letters": (spoilt("letters", keypoint=np.full((1, 5, 17, 2), "a")), "keypoint is ndarray"),
        "scores": (spoilt("scores", keypoint_score=np.ones((1, 4, 17))), "keypoint_score is no array of shape [1, 5"),
        "size": (spoilt("size", img_shape=(0, 1920)), "img_shape is no height and width"),
        "nosize": (spoilt("nosize", img_shape=None), "no 'img_shape' in it"),
        "label": (spoilt("label", label="drink"), "frame_dir 'label', label 'drink'; wanted a name and a number"),
        "truth": (spoilt("truth", label=True), "label True; wanted"),
        "nolabel": (spoilt("nolabel", label=None), "no 'label' in it"),
        "zero": (spoilt("zero", keypoint=keypoint * 0), "all coordinates are zero"),
        "far": (spoilt("far", label=10**12), "out of range 1..1"),
    }
    found = run(write_2d(tmp_path / "a.pkl", poses_2d("good", 0), *(annotation for annotation, _ in odd.values())))
    assert found.skeletons.names == ("good",)
    said = {finding.file: finding.found for finding in found.findings}
    assert set(said) == set(odd)
    for name, (_, wanted) in odd.items():
        assert wanted in said[name]


def test_a_clip_without_a_name_is_a_finding(tmp_path):
    content = {"split": {"train": ["good"], "val": []}, "annotations": [poses_2d("good", 0), spoilt("x", frame_dir=7)]}
    found = run(write(tmp_path / "a.pkl", content))
    assert [finding.found for finding in found.findings] == ["frame_dir 7, label 0; wanted a name and a number"]


def test_frames_that_are_miscounted_or_not_finite_are_kept_and_said(tmp_path):
    pose = poses_2d("a", 0) | {"total_frames": 9}
    pose["keypoint"][0, 2, 4, 0] = np.nan
    found = run(write_2d(tmp_path / "a.pkl", pose, poses_2d("b", 0)))
    assert found.skeletons.names == ("a", "b")
    assert np.isfinite(found.skeletons.joints.values).all()
    assert [(finding.file, finding.found) for finding in found.findings] == [
        ("a", "NaN or Inf in 1 frames"),
        ("a", "total_frames says 9, there are 5"),
    ]


def test_two_annotations_of_one_clip_are_one_clip(tmp_path):
    found = run(write_2d(tmp_path / "a.pkl", poses_2d("a", 0, frames=3), poses_2d("b", 0), poses_2d("b", 0, frames=7)))
    assert found.skeletons.names == ("a", "b")
    assert found.skeletons.frames.tolist() == [3, 5]
    assert [finding.found for finding in found.findings] == ["second clip of the name"]


def test_ntus_names_with_labels_of_ones_own_have_numbers_for_classes(tmp_path):
    """A subset whose classes were counted anew."""
    poses = [poses_2d("S001C001P001R001A050", 0), poses_2d("S001C001P002R001A051", 1)]
    found = run(write_2d(tmp_path / "a.pkl", *poses))
    assert found.skeletons.classes == ("class 0", "class 1")
    wanted = "names are NTU's, but 2 labels are not (S001C001P001R001A050 has 0); classes are numbers"
    assert wanted in found.warnings


def test_a_clip_on_both_sides_is_refused(tmp_path):
    content = {"split": {"train": ["a", "b"], "val": ["b"]}, "annotations": [poses_2d("a", 0), poses_2d("b", 0)]}
    with pytest.raises(ValueError, match="split given has 1 clips on both sides, such as b"):
        Pyskl(write(tmp_path / "a.pkl", content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"S001": np.zeros(60)}, "a pickle, but not PYSKL's: a dict with S001"),
        (np.zeros(3), "not PYSKL's: ndarray"),
        (([1], [2]), "not PYSKL's: tuple"),
        ({"split": {}, "annotations": []}, "not one annotation"),
        ({"split": {}, "annotations": ["a"]}, "its annotations are str, wanted dicts"),
        ({"split": {}, "annotations": [poses_2d("a", 0)]}, "no split with train and val or test; it has none"),
        ({"split": {"train": ["a"]}, "annotations": [poses_2d("a", 0)]}, "it has train"),
        ({"split": {"train": 3, "val": []}, "annotations": [poses_2d("a", 0)]}, "split given is no list of names"),
        ({"split": {"train": [[]], "val": []}, "annotations": [poses_2d("a", 0)]}, "split given is no list of names"),
        (
            {"split": {}, "annotations": [{"frame_dir": "a", "raw_file": "k.pkl", "label": 0}]},
            r"no poses in it; they lie in files of their own \(Kinetics400\)",
        ),
        ({"split": {}, "annotations": [{"frame_dir": "a"}]}, "no field keypoint"),
        (
            {"split": {}, "annotations": [{"frame_dir": "a", "keypoint": np.zeros((1, 2, 18, 2))}]},
            "poses of|18 joints of 2 numbers; known are 25 of 3",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_a_pickle_that_is_not_pyskls_is_refused(content, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        Pyskl(write(tmp_path / "a.pkl", content))


class Command:
    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self._marker}",)


def test_a_command_in_the_pickle_is_not_run(tmp_path):
    content = {"split": {"train": ["a"], "val": ["b"]}, "annotations": [poses_2d("a", 0), Command(tmp_path / "ran")]}
    with pytest.raises(ValueError, match=r"a\.pkl: .*it wants \w+\.system, which is not run"):
        Pyskl(write(tmp_path / "a.pkl", content))
    assert not (tmp_path / "ran").exists()


def test_a_zip_a_folder_and_nothing_are_refused(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="not a pickle of arrays"):
        Pyskl(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="a folder holds no one data set of PYSKL's"):
        Pyskl(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such folder or file; give PYSKL's \.pkl file"):
        Pyskl(tmp_path / "absent.pkl")


def test_the_file_is_known_again_and_a_changed_one_is_read_anew(tmp_path):
    path = write_2d(tmp_path / "a.pkl", poses_2d("a", 0), poses_2d("b", 0))
    assert not run(path).again
    assert run(path).again
    write_2d(path, poses_2d("a", 0, frames=8), poses_2d("b", 0))
    found = run(path)
    assert not found.again
    assert found.skeletons.frames.tolist() == [8, 5]


def test_clips_do_not_keep_the_whole_file_in_memory(tmp_path):
    """What is given to the cache is a copy: the pickle's arrays lie together no longer than they are read."""
    raw = Pyskl(write_2d(tmp_path / "a.pkl", poses_2d("a", 0), poses_2d("b", 0)))
    clip = raw.reader(raw.files()[0])
    assert isinstance(clip, RawClip)
    assert clip.joints.dtype == np.float32
    assert clip.joints.base is None or clip.joints.base.nbytes == clip.joints.nbytes
