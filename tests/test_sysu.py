"""SYSU 3D HOI: folders of people and videos, in a folder or a zip, become clips; what is odd is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from scipy.io import savemat

from mmcl.cache.skeletons import TEST, TRAIN
from mmcl.pipeline.datasets.sysu import CLASSES, Sysu
from mmcl.pipeline.preparation.layouts import KINECT_V1
from mmcl.pipeline.preparation.prepare import Prepared, prepare

PEOPLE = ("wang", "Bao", "li")  # sorted: Bao, li, wang


def write_clip(raw: Path, person: str, action: int, array: np.ndarray, variable: str = "SW") -> Path:
    folder = raw / "SYSU3DAction" / "3DvideoNorm" / person / f"video{action}"
    folder.mkdir(parents=True)
    savemat(folder / "sklWorld.mat", {variable: array})
    return folder / "sklWorld.mat"


def joints(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(20, 3, frames))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for seed, person in enumerate(PEOPLE):
        for action in (1, 3, 12):
            write_clip(tmp_path / "raw", person, action, joints(5 + action, seed + action))
    return tmp_path / "raw"


def prepared(raw: Path, out: Path) -> Prepared:
    found = prepare("sysu", Sysu(raw), out, lambda done, total: None, jobs=1)
    assert found is not None
    return found


def zipped(raw: Path, path: Path) -> Path:
    with ZipFile(path, "w") as archive:
        for file in sorted(raw.rglob("*.mat")):
            archive.write(file, file.relative_to(raw))
    return path


def test_clips_are_named_by_person_and_video_and_joints_are_as_in_the_file(raw: Path, tmp_path: Path):
    found = prepared(raw, tmp_path / "out").skeletons
    assert found.names == tuple(f"{person}_video{action}" for person in sorted(PEOPLE) for action in (1, 12, 3))
    assert [found.classes[label] for label in found.labels[:3]] == ["drinking", "sweeping", "calling phone"]
    assert found.columns["subject"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.layout == KINECT_V1 and set(found.bodies.tolist()) == {1} and found.frames[:3].tolist() == [6, 17, 8]
    row = found.names.index("wang_video3")
    np.testing.assert_array_equal(found.joints[row], joints(8, 3).astype(np.float32).transpose(2, 0, 1))


def test_odd_subjects_train_and_even_ones_test(raw: Path, tmp_path: Path):
    found = prepared(raw, tmp_path / "out").skeletons
    assert {found.columns["subject"][row] for row in found.rows("xsub", TRAIN)} == {1, 3}
    assert {found.columns["subject"][row] for row in found.rows("xsub", TEST)} == {2}


def test_a_zip_gives_what_its_folder_gives(raw: Path, tmp_path: Path):
    from_folder = prepared(raw, tmp_path / "folder").skeletons
    from_zip = prepared(zipped(raw, tmp_path / "SYSU3DAction.zip"), tmp_path / "zip").skeletons
    assert from_zip.digest == from_folder.digest


def test_too_few_people_are_said_as_they_change_the_split(raw: Path, tmp_path: Path):
    warnings = prepared(raw, tmp_path / "out").warnings
    assert "3 of 40 people: subjects are numbered by sorted name, so split xsub is another one" in warnings
    assert "xsub: 6 train / 3 test, published are 240 / 240" in warnings


def test_a_person_more_is_other_rows(raw: Path):
    """A killed preparation goes on with the parts that it has: not with those of other subject numbers."""
    before = Sysu(raw).facts.decided
    write_clip(raw, "chen", 1, joints(4))
    assert Sysu(raw).facts.decided != before


def test_a_whole_set_is_40_people_and_240_clips_a_side(tmp_path: Path):
    one = write_clip(tmp_path / "one", "x", 1, joints(2)).read_bytes()
    for person in range(40):
        for action in range(1, 13):
            folder = tmp_path / "raw" / f"p{person:02}" / f"video{action}"
            folder.mkdir(parents=True)
            (folder / "sklWorld.mat").write_bytes(one)
    found = prepared(tmp_path / "raw", tmp_path / "out")
    assert found.warnings == [] and found.findings == []
    assert [len(found.skeletons.rows("xsub", side)) for side in (TRAIN, TEST)] == [240, 240]


@pytest.mark.parametrize(
    ("array", "variable", "found"),
    [
        (joints(4), "S", "no array SW in it"),
        (np.zeros((20, 2, 4)), "SW", r"SW of shape [20, 2, 4], wanted [20, 3, frames]"),
        (np.zeros((25, 3, 4)), "SW", r"SW of shape [25, 3, 4], wanted [20, 3, frames]"),
        (np.full((20, 3, 4), np.nan), "SW", "not one finite coordinate"),
    ],
)
def test_a_file_of_other_contents_is_left_out_and_named(
    raw: Path, tmp_path: Path, array: np.ndarray, variable: str, found: str
):
    write_clip(raw, "li", 2, array, variable)
    result = prepared(raw, tmp_path / "out")
    [finding] = result.findings
    assert finding.found == found and finding.done == "left out"
    assert len(result.skeletons.names) == 9


def test_damaged_files_and_strange_places_are_left_out(raw: Path, tmp_path: Path):
    write_clip(raw, "li", 2, joints(4)).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    write_clip(raw, "li", 13, joints(4))
    stray = raw / "li" / "notes" / "sklWorld.mat"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"")
    result = prepared(raw, tmp_path / "out")
    said = [finding.found for finding in result.findings]
    assert any(text.startswith("not a readable MATLAB file") for text in said)
    assert "label 13 out of range 1..12" in said and "does not lie in a folder PERSON/videoA" in said
    assert len(said) == 3 and result.skeletons.columns["subject"].max() == 3


def test_one_frame_is_a_clip(raw: Path, tmp_path: Path):
    """MATLAB keeps a single frame as [20, 3]."""
    write_clip(raw, "li", 2, joints(1)[..., 0])
    found = prepared(raw, tmp_path / "out").skeletons
    assert found.frames[found.names.index("li_video2")] == 1


def test_the_reader_goes_to_other_processes(raw: Path):
    assert b"Bao" in pickle.dumps(Sysu(raw).reader)


def test_another_folder_is_refused_with_what_was_there(tmp_path: Path):
    (tmp_path / "a1_s1_t1_skeleton.mat").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no SYSU skeletons \(PERSON/videoA/sklWorld.mat\); found 1 .mat"):
        Sysu(tmp_path)


def test_the_transfer_names_classes_that_exist_and_says_whose_choice_it_is(raw: Path):
    [transfer] = Sysu(raw).facts.transfers
    assert set(transfer.classes) <= set(CLASSES) and len(CLASSES) == 12
    assert transfer.classes["drinking"] == "drink water" and transfer.classes["sitting chair"] == "sitting down"
    assert transfer.source.startswith("ours: the paper's choice is unpublished")
