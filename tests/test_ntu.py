"""NTU RGB+D 60 and 120: names, the four benchmarks, and what is said of what is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from mmcl.cache.skeletons import OUT, TEST, TRAIN, read_skeletons
from mmcl.pipeline.datasets.ntu import NTU60, Ntu60, Ntu120, grid, read_clip, read_name
from mmcl.pipeline.datasets.ntu_classes import CLASSES, TWO_PERSON
from mmcl.pipeline.preparation.dataset import Clip, Finding
from mmcl.pipeline.preparation.prepare import Prepared, prepare
from mmcl.pipeline.preparation.raw import RawFile
from mmcl.tests.ntu_files import acted, write_skeleton

ONE, TWO = "S001C001P001R001A001", "S001C001P001R001A050"


# ---- names


def test_a_name_says_setup_camera_performer_replication_and_action() -> None:
    found = read_name("S018C003P042R002A120")
    assert (found.setup, found.camera, found.subject, found.trial, found.action) == (18, 3, 42, 2, 120)


@pytest.mark.parametrize("stem", ["s001c001p001r001a001", f"{ONE} (1)", f"{ONE}_rgb", "S1C1P1R1A1", "skeleton"])
def test_a_name_in_another_form_is_told_the_wanted_one(stem: str) -> None:
    with pytest.raises(ValueError, match=r"name is not of the form SsssCcccPpppRrrrAaaa\.skeleton"):
        read_name(stem)


@pytest.mark.parametrize(
    ("stem", "said"),
    [
        ("S033C001P001R001A061", "setup 33 in its name, wanted 1..32"),
        ("S001C004P001R001A001", "camera 4"),
        ("S001C001P107R001A001", "subject 107"),
        ("S001C001P001R003A001", "trial 3"),
        ("S018C001P001R001A121", "action 121"),
        ("S001C001P001R001A000", "action 0"),
        ("S017C001P001R001A061", "setups 1-17 act A001-A060"),
        ("S018C001P001R001A060", "setups 1-17 act A001-A060"),
    ],
)
def test_a_sample_that_does_not_exist_is_refused(stem: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        read_name(stem)


def test_there_are_120_classes_of_which_26_are_of_two() -> None:
    assert len(set(CLASSES)) == 120
    assert (CLASSES[0], CLASSES[22], CLASSES[59]) == ("drink water", "hand waving", "walking apart from each other")
    assert (CLASSES[60], CLASSES[119][:12]) == ("put on headphone", "finger-guess")
    assert [CLASSES[label] for label in (TWO_PERSON[0], TWO_PERSON[10], TWO_PERSON[11])] == [
        "punching/slapping other person",
        "walking apart from each other",
        "hit other person with something",
    ]
    assert len(TWO_PERSON) == 26


# ---- the four benchmarks


def side(dataset: type[Ntu60 | Ntu120], split: str, name: str) -> int:
    found = read_name(name)
    columns = {what: getattr(found, what) for what in ("setup", "camera", "subject", "trial")}
    return dataset.facts.splits[split].side(Clip(name, found.action - 1, columns))


@pytest.mark.parametrize(
    ("name", "xsub", "xview"),
    [
        ("S001C001P001R001A001", TRAIN, TEST),
        ("S001C002P003R001A001", TEST, TRAIN),
        ("S017C003P038R002A060", TRAIN, TRAIN),
        ("S009C001P040R001A030", TEST, TEST),
    ],
)
def test_ntu60_is_split_by_performer_and_by_camera(name: str, xsub: int, xview: int) -> None:
    assert (side(Ntu60, "xsub", name), side(Ntu60, "xview", name)) == (xsub, xview)
    assert (side(Ntu120, "ntu60-xsub", name), side(Ntu120, "ntu60-xview", name)) == (xsub, xview)


@pytest.mark.parametrize(
    ("name", "xsub", "xset"),
    [
        ("S001C001P001R001A001", TRAIN, TEST),
        ("S002C002P003R001A001", TEST, TRAIN),
        ("S018C003P041R001A061", TEST, TRAIN),
        ("S031C003P103R002A120", TRAIN, TEST),
        ("S032C001P106R001A090", TEST, TRAIN),
        ("S019C001P045R001A100", TRAIN, TEST),
    ],
)
def test_ntu120_is_split_by_performer_and_by_setup(name: str, xsub: int, xset: int) -> None:
    assert (side(Ntu120, "xsub", name), side(Ntu120, "xset", name)) == (xsub, xset)


def test_a_cache_of_ntu120_holds_ntu60s_benchmarks_too() -> None:
    """Performer 8 acts in both halves; only the first half is NTU 60, with its 60 classes and its rule for bodies."""
    assert side(Ntu120, "ntu60-xsub", "S018C001P008R001A061") == OUT
    assert side(Ntu120, "ntu60-xview", "S032C002P008R001A061") == OUT
    assert side(Ntu120, "xsub", "S018C001P008R001A061") == TRAIN
    rules = {name: (rule.body_rule, rule.classes, rule.published) for name, rule in Ntu120.facts.splits.items()}
    assert rules == {
        "xsub": ("repeat", (), (63026, 50919)),
        "xset": ("repeat", (), (54468, 59477)),
        "ntu60-xsub": ("zero", tuple(range(60)), (40091, 16487)),
        "ntu60-xview": ("zero", tuple(range(60)), (37646, 18932)),
    }
    assert {name: rule.body_rule for name, rule in Ntu60.facts.splits.items()} == {"xsub": "zero", "xview": "zero"}


def test_half_of_the_performers_train() -> None:
    """20 of 40, and 53 of 106."""
    names = [f"S001C001P{subject:03}R001A001" for subject in range(1, 107)]
    assert [side(Ntu60, "xsub", name) for name in names[:40]].count(TRAIN) == 20
    assert [side(Ntu120, "xsub", name) for name in names].count(TRAIN) == 53


# ---- one clip


def test_a_clip_has_its_name_label_columns_and_shares_of_the_picture(tmp_path: Path) -> None:
    path = write_skeleton(tmp_path, "S003C002P007R001A024", acted(1, frames=30))
    clip = read_clip(RawFile(path), NTU60)
    assert (clip.name, clip.label) == ("S003C002P007R001A024", 23)
    assert clip.columns == {"setup": 3, "camera": 2, "subject": 7, "trial": 1}
    assert clip.joints.shape == (1, 30, 25, 3)
    assert clip.image_points is not None
    place = clip.joints[0, 0, 3]
    expected = [(place[0] / place[2] * 1081.37 + 959.5) / 1920, (place[1] / place[2] * -1081.37 + 539.5) / 1080]
    assert clip.image_points[0, 0, 3].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_class_of_two_with_one_actor_is_noted(tmp_path: Path) -> None:
    alone = read_clip(RawFile(write_skeleton(tmp_path, TWO, acted(1, frames=30))), NTU60)
    both = read_clip(RawFile(write_skeleton(tmp_path, TWO, acted(7, frames=30))), NTU60)
    assert alone.notes == ("one actor, in a class of two: punching/slapping other person",)
    assert (len(both.joints), both.notes) == (2, ())


def test_a_file_without_a_body_is_left_out_as_empty(tmp_path: Path) -> None:
    for frames in ([], [[], [], []]):
        with pytest.raises(ValueError, match="no body in any frame"):
            read_clip(RawFile(write_skeleton(tmp_path, ONE, frames)), NTU60)


# ---- all of it


def test_a_folder_is_prepared_with_every_odd_file_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_skeleton(raw / "a", ONE, acted(1, 20))
    write_skeleton(raw / "b", "S001C002P003R001A050", acted(7, 25))
    write_skeleton(raw, "S001C001P001R001A002", [[], []])
    write_skeleton(raw, "S018C001P001R001A061", acted(1, 3))
    write_skeleton(raw, f"{ONE} (1)", acted(2, 3))
    write_skeleton(raw, "s001c001p001r001a003", acted(2, 3))
    write_skeleton(raw, "S001C001P001R001A004", acted(2, 3)).rename(raw / "S001C001P001R001A004.SKELETON")
    cut = write_skeleton(raw, "S001C001P001R001A005", acted(2, 3))
    cut.write_bytes(cut.read_bytes()[:5000])
    found = prepared("ntu60", Ntu60(raw), tmp_path / "out")
    skeletons = found.skeletons
    assert skeletons.names == (ONE, "S001C001P001R001A004", "S001C002P003R001A050")
    assert (skeletons.labels.tolist(), skeletons.bodies.tolist()) == ([0, 3, 49], [1, 1, 2])
    assert skeletons.frames.tolist() == [20, 3, 25]
    assert skeletons.splits["xsub"].sides.tolist() == [TRAIN, TRAIN, TEST]
    said = {finding.file: finding.found for finding in found.findings}
    assert said.pop(cut.name).startswith("ends at line ")
    assert said == {
        "S001C001P001R001A002.skeleton": "no body in any frame",
        "S018C001P001R001A061.skeleton": "of NTU120; prepare ntu120",
        f"{ONE} (1).skeleton": "name is not of the form SsssCcccPpppRrrrAaaa.skeleton",
        "s001c001p001r001a003.skeleton": "name is not of the form SsssCcccPpppRrrrAaaa.skeleton",
    }
    assert "a subset: 5 of NTU RGB+D 60's 56,880 samples; 1 have no body in any frame" in found.warnings
    counts = found.counts
    assert (counts["bodies in the files"], counts["actors in the cache"], counts["frames in the files"]) == (4, 4, 48)


def test_a_zip_and_several_processes_give_the_same_cache(tmp_path: Path) -> None:
    raw, rows = tmp_path / "raw", range(1, 25)
    paths = [write_skeleton(raw, f"S018C001P001R001A{60 + row:03}", acted(row, 12)) for row in rows]
    with ZipFile(tmp_path / "nturgbd_skeletons_s018_to_s032.zip", "w") as file:
        for path in paths:
            file.write(path, f"nturgb+d_skeletons/{path.name}")
    plain = prepared("ntu120", Ntu120(raw), tmp_path / "plain").skeletons
    zipped = prepare(
        "ntu120", Ntu120(tmp_path / "nturgbd_skeletons_s018_to_s032.zip"), tmp_path / "zipped", silent, jobs=2
    ).skeletons
    assert plain.digest == zipped.digest
    assert plain.names == tuple(path.stem for path in paths)
    assert read_skeletons(tmp_path / "zipped" / "skeletons.h5").image_points is not None


def test_another_data_sets_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a01_s01_e00_v01.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds no NTU RGB\+D skeletons .*; found 1 \.json"):
        Ntu60(tmp_path).files()


def silent(done: int, total: int) -> None:
    pass


def prepared(name: str, raw: Ntu60 | Ntu120, out: Path) -> Prepared:
    return prepare(name, raw, out, silent)


# ---- what is missing


def all_names(groups_60: int, groups_120: int) -> list[str]:
    """All samples of so many groups of setup, performer and replication."""
    first = [f"S{1 + at % 17:03}C001P{1 + at // 17:03}R001A001" for at in range(groups_60)]
    second = [f"S{18 + at % 15:03}C001P{1 + at // 15:03}R001A061" for at in range(groups_120)]
    return sorted(grid([*first, *second]))


def empties(names: Sequence[str]) -> list[Finding]:
    return [Finding(f"{name}.skeleton", "no body in any frame", "left out") for name in names]


def test_a_group_is_three_cameras_and_sixty_classes() -> None:
    first, second = grid(["S002C003P004R001A007"]), grid(["S019C001P004R002A120"])
    assert len(first) == len(second) == 180
    assert {"S002C001P004R001A001", "S002C003P004R001A060"} <= first
    assert {"S019C001P004R002A061", "S019C003P004R002A120"} <= second


@pytest.mark.parametrize(
    ("dataset", "groups", "published"),
    [(Ntu60, (316, 0), 302), (Ntu120, (316, 320), 535)],
    ids=["ntu60", "ntu120"],
)
def test_of_all_samples_those_without_a_skeleton_are_compared_with_the_published(
    dataset: type[Ntu60 | Ntu120], groups: tuple[int, int], published: int, tmp_path: Path
) -> None:
    names = all_names(*groups)
    assert len(names) == (56_880 if dataset is Ntu60 else 114_480)
    absent, empty, here = names[: published - 100], names[published - 100 : published], names[published:]
    raw = dataset(tmp_path)
    (said,) = raw.remarks(here, empties(empty))
    assert f"{len(absent)} samples absent, 100 with no body in any frame: {published} in all, as published" in said
    (said,) = raw.remarks(here[1:], empties([*empty, here[0]]))
    assert f"{published + 1} in all, published are {published} missing or incomplete ones" in said


def test_more_samples_than_the_published_ones_are_said_to_be_so(tmp_path: Path) -> None:
    """Incomplete ones that hold bodies are kept; who compares with published numbers has to know."""
    names = all_names(316, 0)
    (said,) = Ntu60(tmp_path).remarks(names[300:], [])
    assert said == (
        "NTU RGB+D 60: 300 samples absent, 0 with no body in any frame: 300 in all, published are 302 missing or "
        "incomplete ones; samples here beyond the published ones: 2; published numbers leave them out, by name"
    )
    for first in (302, 303):
        (said,) = Ntu60(tmp_path).remarks(names[first:], [])
        assert "beyond" not in said
    damaged = [Finding(f"{name}.skeleton", "an empty file", "left out") for name in names[300:302]]
    (said,) = Ntu60(tmp_path).remarks(names[302:], damaged)
    assert said.endswith("missing or incomplete ones; 2 more could not be used")


def test_of_all_samples_damaged_ones_are_counted_apart(tmp_path: Path) -> None:
    """A second file of a sample that is here is none."""
    names = all_names(316, 0)
    findings = [Finding(f"{names[0]}.skeleton", "an empty file", "left out")]
    findings += [Finding(names[400], "second clip of the name", "left out")]
    (said,) = Ntu60(tmp_path).remarks(names[303:], findings)
    assert "302 samples absent, 0 with no body in any frame: 302 in all, as published; 1 more could not be used" in said


def test_a_subset_is_said_to_be_one_and_names_the_few_that_are_absent(tmp_path: Path) -> None:
    """Two sessions without three samples, one of which is there without a body; a note that was kept is no gap."""
    names = all_names(2, 0)
    findings = [*empties(names[:1]), Finding(f"{names[9]}.skeleton", "one actor, in a class of two", "kept")]
    assert Ntu60(tmp_path).remarks(names[3:], findings) == [
        "a subset: 358 of NTU RGB+D 60's 56,880 samples; 1 have no body in any frame",
        f"absent of the sessions that are here: {names[1]}, {names[2]}",
    ]
    assert Ntu60(tmp_path).remarks(names[100:], []) == [
        "a subset: 260 of NTU RGB+D 60's 56,880 samples; 0 have no body in any frame"
    ]
