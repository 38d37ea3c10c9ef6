"""Raw files to a skeleton cache: what is read, what is odd, what is refused."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mmcl.cache.skeletons import OUT, TEST, TRAIN, read_skeletons
from mmcl.pipeline.datasets import DATASETS, open_dataset
from mmcl.pipeline.prepare import Prepared, prepare

REAL = Path(os.environ.get("MMCL_REAL_DATA", "absent"))
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="MMCL_REAL_DATA names no folder with nw_ucla and utd_mhad")


def run(name: str, raw: Path, out: Path) -> Prepared:
    return prepare(name, open_dataset(name, raw), out, lambda done, total: None)


def write_nw_ucla(folder: Path, name: str, frames: int, label: int, spoilt: dict | None = None) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    joints = np.random.default_rng(len(name) + frames).normal(size=(frames, 20, 3))
    for place, value in (spoilt or {}).items():
        joints[place] = value
    text = json.dumps({"file_name": name, "skeletons": joints.tolist(), "label": label})
    (folder / f"{name}.json").write_text(text)
    return joints


def test_nw_ucla_keeps_frames_labels_subjects_and_views(tmp_path):
    joints = write_nw_ucla(tmp_path / "raw", "a12_s07_e02_v03", 9, 10)
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 4, 1)
    run("nw-ucla", tmp_path / "raw", tmp_path / "out")
    found = read_skeletons(tmp_path / "out" / "skeletons.h5")
    assert found.names == ("a01_s01_e00_v01", "a12_s07_e02_v03")
    assert found.labels.tolist() == [0, 9]
    assert found.frames.tolist() == [4, 9]
    np.testing.assert_array_equal(found.joints[1], joints.astype(np.float32))
    assert {name: values.tolist() for name, values in found.columns.items()} == {
        "subject": [1, 7],
        "view": [1, 3],
        "trial": [0, 2],
    }
    assert found.rows("xview", TRAIN).tolist() == [0]
    assert found.rows("xview", TEST).tolist() == [1]


def test_every_odd_file_is_named_with_what_was_done(tmp_path):
    raw = tmp_path / "raw"
    write_nw_ucla(raw, "a01_s01_e00_v01", 5, 1)
    write_nw_ucla(raw, "a01_s01_e01_v01", 1, 1)
    write_nw_ucla(raw, "a01_s01_e02_v01", 5, 11)
    write_nw_ucla(raw, "a01_s01_e03_v03", 5, 1, {(2, 4, 0): np.nan})
    (raw / "a01_s01_e04_v01.json").write_text("{ not json")
    (raw / "a01_s01_e05_v01.json").write_text(json.dumps({"skeletons": [[[1, 2]]], "label": 1}))
    found = run("nw-ucla", raw, tmp_path / "out")
    odd = {finding.file: (finding.found, finding.done) for finding in found.findings}
    assert odd["a01_s01_e01_v01.json"] == ("1 frame", "kept; it has no motion")
    assert odd["a01_s01_e02_v01.json"] == ("label 11 out of range 1..10", "left out")
    assert odd["a01_s01_e03_v03.json"] == ("NaN or Inf in 1 frames", "last good value of the joint kept")
    assert odd["a01_s01_e04_v01.json"][1] == odd["a01_s01_e05_v01.json"][1] == "left out"
    assert len(odd) == 5
    assert found.skeletons.names == ("a01_s01_e00_v01", "a01_s01_e01_v01", "a01_s01_e03_v03")
    with (tmp_path / "out" / "findings.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == set(odd)


def test_nan_becomes_the_joints_last_good_value(tmp_path):
    joints = write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1, {(2, 4, 0): np.nan, (0, 7, 1): np.inf})
    found = run("nw-ucla", tmp_path / "raw", tmp_path / "out").skeletons.joints[0]
    np.testing.assert_array_equal(found[2, 4], joints[1, 4].astype(np.float32))
    np.testing.assert_array_equal(found[0, 7], joints[1, 7].astype(np.float32))
    assert np.isfinite(found).all()


def test_counts_that_differ_from_the_published_are_a_warning(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    warnings = "\n".join(run("nw-ucla", tmp_path / "raw", tmp_path / "out").warnings)
    assert "xview: 1 train / 0 test, published are 1,020 / 464" in warnings
    assert "no clip of class pick up with two hands" in warnings


def test_utd_mhad_reads_matlab_files_and_names_the_damaged(tmp_path):
    joints = np.random.default_rng(0).normal(size=(20, 3, 6))
    savemat(tmp_path / "a27_s4_t1_skeleton.mat", {"d_skel": joints})
    savemat(tmp_path / "a3_s1_t2_skeleton.mat", {"d_skel": joints})
    savemat(tmp_path / "a3_s1_t3_skeleton.mat", {"other": joints})
    (tmp_path / "a3_s1_t4_skeleton.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    found = run("utd-mhad", tmp_path, tmp_path / "out")
    assert found.skeletons.names == ("a27_s4_t1", "a3_s1_t2")
    assert found.skeletons.labels.tolist() == [26, 2]
    assert found.skeletons.splits["xsub"].tolist() == [TEST, TRAIN]
    np.testing.assert_array_equal(found.skeletons.joints[0], joints.transpose(2, 0, 1).astype(np.float32))
    assert [finding.file for finding in found.findings] == ["a3_s1_t3_skeleton.mat", "a3_s1_t4_skeleton.mat"]


@real_data
@pytest.mark.parametrize(
    ("name", "folder", "clips"), [("nw-ucla", "nw_ucla", 1484), ("utd-mhad", "utd_mhad", 861)], ids=["nw-ucla", "utd"]
)
def test_the_real_data_sets_have_their_published_counts(name, folder, clips, tmp_path):
    found = run(name, REAL / folder, tmp_path / "out")
    assert len(found.skeletons.names) == clips
    assert found.warnings == []
    assert {finding.found for finding in found.findings} <= {"1 frame"}


def test_ones_own_folder_gives_its_classes_and_both_splits(prepared, raw):
    found = read_skeletons(prepared / "skeletons.h5")
    assert found.dataset == "acted"
    assert found.classes == ("drink", "kick", "pick up", "sit down", "stand up", "wave")
    assert set(found.splits) == {"given", "xsub"}
    assert len(found.names) == 24
    testing = found.rows("xsub", TEST)
    assert set(found.columns["subject"][testing]) == {2, 4}
    with (raw / "samples.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    clip = found.names.index(first["name"])
    np.testing.assert_array_equal(found.joints[clip], np.load(raw / first["skeleton"]))


def write_folder(folder: Path, header: str, row: str, joints: np.ndarray | None = None) -> Path:
    folder.mkdir()
    (folder / "samples.csv").write_text(f"{header}\n{row}\n")
    np.save(folder / "one.npy", np.ones((4, 20, 3)) if joints is None else joints)
    return folder


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("name,label", "one,wave", r"column skeleton missing; found name, label"),
        ("name,label,skeleton", "one,wave,one.npy", r"neither a split nor two subjects"),
        (
            "name,label,skeleton,split",
            "one,wave,one.npy,validate",
            r"split validate; allowed are train, test or nothing",
        ),
        ("name,label,skeleton,split", "one,wave,two.npy,train", r"none of the 1 skeleton files"),
        ("name,label,skeleton,subject", "one,wave,one.npy,P1", r"line 2: subject P1; wanted a whole number"),
        ("name,label,skeleton,subject", "one,wave", r"line 2: no skeleton"),
        ("name,label,skeleton,split", "one,wave,../one.npy,train", r"line 2: skeleton \.\./one\.npy lies outside"),
        (
            "name,label,skeleton,split",
            "one,wave,one.npy,train\none,sit,two.npy,test",
            r"lines 2 and 3: the same name one",
        ),
        (
            "name,label,skeleton,split",
            "one,wave,one.npy,train\ntwo,sit,one.npy,test",
            r"lines 2 and 3: the same skeleton one\.npy",
        ),
    ],
)
def test_a_table_that_does_not_do_says_what_it_lacks(tmp_path, header, row, said):
    raw = write_folder(tmp_path / "raw", header, row)
    with pytest.raises(ValueError, match=said):
        run("folder", raw, tmp_path / "out")


def test_a_spreadsheets_byte_order_mark_is_no_part_of_a_column(tmp_path):
    raw = write_folder(
        tmp_path / "raw", "\N{ZERO WIDTH NO-BREAK SPACE}name,label,skeleton,split", "a,wave,one.npy,train"
    )
    assert run("folder", raw, tmp_path / "out").skeletons.names == ("a",)


def test_files_that_are_no_skeletons_are_named_and_the_rest_is_kept(tmp_path):
    rows = "one,wave,one.npy,train\nempty,wave,empty.npy,test\nzip,wave,zip.npy,test\ngone,wave,gone.npy,test"
    raw = write_folder(tmp_path / "raw", "name,label,skeleton,split", rows)
    (raw / "empty.npy").touch()
    with (raw / "zip.npy").open("wb") as file:
        np.savez(file, joints=np.ones((4, 20, 3)))
    found = run("folder", raw, tmp_path / "out")
    assert found.skeletons.names == ("one",)
    assert {finding.file for finding in found.findings} == {"empty.npy", "zip.npy", "gone.npy"}


def test_a_clip_of_an_unknown_subject_is_on_neither_side(tmp_path):
    raw = write_folder(
        tmp_path / "raw", "name,label,skeleton,subject", "a,wave,one.npy,1\nb,wave,b.npy,2\nc,wave,c.npy,"
    )
    for name in "bc":
        np.save(raw / f"{name}.npy", np.ones((4, 20, 3)))
    assert run("folder", raw, tmp_path / "out").skeletons.splits["xsub"].tolist() == [TRAIN, TEST, OUT]


def test_unknown_joint_count_is_refused(tmp_path):
    raw = write_folder(tmp_path / "raw", "name,label,skeleton,split", "one,wave,one.npy,train", np.ones((4, 17, 3)))
    with pytest.raises(ValueError, match=r"clips of 17 joints; known are 20 \(Kinect v1\) and 25 \(Kinect v2\)"):
        run("folder", raw, tmp_path / "out")


def test_a_pickle_in_a_skeleton_file_is_not_opened(tmp_path):
    raw = write_folder(tmp_path / "raw", "name,label,skeleton,split", "one,wave,one.npy,train\ntwo,wave,two.npy,test")
    np.save(raw / "two.npy", np.array([{"code": "runs"}], dtype=object), allow_pickle=True)
    found = run("folder", raw, tmp_path / "out")
    assert found.skeletons.names == ("one",)
    assert found.findings[0].file == "two.npy"
    assert "pickle" in found.findings[0].found.lower()


@pytest.mark.parametrize("name", DATASETS)
def test_missing_and_empty_folders_are_refused(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run(name, tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no"):
        run(name, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_data_sets_files_are_refused_with_what_was_there(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    with pytest.raises(ValueError, match=r"holds no UTD-MHAD skeletons .*; found 1 \.json"):
        run("utd-mhad", tmp_path / "raw", tmp_path / "out")


def test_one_folder_holds_one_data_set(tmp_path, data):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    before = (data / "skeletons.h5").read_bytes()
    with pytest.raises(ValueError, match="holds the skeletons of acted; give nw-ucla another --out"):
        run("nw-ucla", tmp_path / "raw", data)
    assert (data / "skeletons.h5").read_bytes() == before


def test_nothing_is_written_where_no_file_could_be_used(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 99)
    with pytest.raises(ValueError, match=r"none of 1 files could be used; .*label 99 out of range 1\.\.10"):
        run("nw-ucla", tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_data_set_registered_is_a_data_set_prepared(tmp_path, raw, monkeypatch):
    """A new entry in the registry needs nothing else."""
    monkeypatch.setitem(DATASETS, "mine", DATASETS["folder"])
    assert len(run("mine", raw, tmp_path / "out").skeletons.names) == 24


def test_unknown_data_set_offers_the_nearest():
    with pytest.raises(ValueError, match="no data set 'nw_ucla': did you mean nw-ucla"):
        open_dataset("nw_ucla", Path())
