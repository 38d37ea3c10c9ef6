"""The skeleton cache: what is written comes back, what does not hold together is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import OUT, TEST, TRAIN, Layout, Skeletons, Split, Transfer, read_skeletons, write_skeletons
from mmcl.cache.table import Ragged, read_table, write_table

LAYOUT = Layout("three", ("hip", "chest", "head"), ((0, 1), (2, 1)), 1, ((0, 2),))


def small() -> Skeletons:
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(rows, 3, 3)).astype(np.float32) for rows in (4, 6, 1)]
    return Skeletons(
        dataset="small",
        classes=("wave", "drink with é"),
        layout=LAYOUT,
        names=("a", "längst", "c"),
        labels=np.array([0, 1, 1]),
        bodies=np.array([1, 2, 1]),
        joints=Ragged.of(clips),
        splits={
            "xsub": Split(np.array([TRAIN, TEST, OUT], np.int8)),
            "all": Split(np.array([TRAIN] * 3, np.int8), "repeat"),
        },
        columns={"subject": np.array([1, 2, -1])},
    )


def seen() -> Skeletons:
    """The same clips with the places of their joints in the picture, some of them unknown."""
    points = np.random.default_rng(1).uniform(0, 1, (11, 3, 2)).astype(np.float32)
    points[0, 1], points[7, 2] = np.nan, 0
    return replace(small(), image_points=Ragged(points, small().joints.offsets))


def test_what_is_written_comes_back(tmp_path: Path):
    written = small()
    write_skeletons(tmp_path / "skeletons.h5", written)
    found = read_skeletons(tmp_path / "skeletons.h5")
    for name in ("dataset", "classes", "layout", "names", "coordinates", "transfers", "digest"):
        assert getattr(found, name) == getattr(written, name), name
    for name in ("labels", "bodies", "frames"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    for row in range(3):
        np.testing.assert_array_equal(found.joints[row], written.joints[row])
    np.testing.assert_array_equal(found.columns["subject"], [1, 2, -1])
    assert found.frames.tolist() == [4, 3, 1]


def test_image_points_come_back_where_there_are_some(tmp_path: Path):
    write_skeletons(tmp_path / "seen.h5", seen())
    found, written = read_skeletons(tmp_path / "seen.h5"), seen()
    assert found.image_points is not None and written.image_points is not None
    for row in range(3):
        np.testing.assert_array_equal(found.image_points[row], written.image_points[row])
    assert found.digest == written.digest
    write_skeletons(tmp_path / "small.h5", small())
    assert read_skeletons(tmp_path / "small.h5").image_points is None


def test_the_digest_of_skeletons_without_image_points_is_what_it_always_was():
    """Runs that were trained on such a cache still know it; image points are part of it where there are some."""
    counted = Ragged(np.arange(99, dtype=np.float32).reshape(11, 3, 3), small().joints.offsets)
    assert replace(small(), joints=counted).digest == "8f5df402f250"
    moved = seen()
    assert moved.image_points is not None
    moved.image_points.values[4, 0, 0] += 1
    assert len({small().digest, seen().digest, moved.digest}) == 3


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        ((12, 3, 2), [0, 4, 10, 12], "small: clips whose image points have other bodies or frames than their joints"),
        ((11, 3, 2), [0, 4, 11], "clips whose image points have other bodies or frames"),
        ((11, 3, 3), [0, 4, 10, 11], r"image points float32 of shape \[3, 3\], layout three wants float32 \[3, 2\]"),
        ((11, 4, 2), [0, 4, 10, 11], r"image points float32 of shape \[4, 2\], layout three wants float32 \[3, 2\]"),
    ],
)
def test_image_points_that_do_not_fit_the_joints_are_refused(values: tuple, offsets: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        replace(small(), image_points=Ragged(np.zeros(values, np.float32), np.array(offsets)))
    with pytest.raises(ValueError, match="image points float64 of shape"):
        replace(small(), image_points=Ragged(np.zeros((11, 3, 2)), small().joints.offsets))


def test_rows_of_a_split_and_an_unknown_split_with_the_known_ones():
    assert small().rows("xsub", TRAIN).tolist() == [0] and small().rows("xsub", TEST).tolist() == [1]
    with pytest.raises(ValueError, match="small has no split 'xview'; it has xsub, all"):
        small().rows("xview", TEST)


def test_the_digest_changes_with_a_coordinate_a_label_a_split_and_a_class_name():
    base = small()
    moved = Ragged(base.joints.values.copy(), base.joints.offsets)
    moved.values[5, 1, 2] += 1e-6
    others = [
        replace(base, joints=moved),
        replace(base, labels=np.array([0, 1, 0])),
        replace(base, splits=base.splits | {"xsub": Split(np.array([TRAIN, TEST, TEST], np.int8))}),
        replace(base, classes=("wave", "drink")),
        replace(base, splits=base.splits | {"xsub": replace(base.splits["xsub"], body_rule="repeat")}),
        replace(base, splits=base.splits | {"xsub": replace(base.splits["xsub"], classes=(1, 0))}),
        replace(base, coordinates="image"),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 8
    assert small().digest == base.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "b")}, r"small: columns of different lengths \[2, 3\]"),
        ({"columns": {"subject": np.array([1])}}, r"columns of different lengths \[1, 3\]"),
        ({"names": ("a", "a", "b")}, "two clips of one name"),
        ({"splits": {"xsub": Split(np.array([1], np.int8))}}, r"columns of different lengths \[1, 3\]"),
        ({"splits": {"xsub": Split(np.array([1, 2, 2], np.int8), "zero", (0,))}}, "split xsub has clips or classes"),
        ({"splits": {"xsub": Split(np.array([1, 0, 0], np.int8), "zero", (0, 2))}}, "split xsub has clips or classes"),
        ({"coordinates": "feet"}, "coordinates feet; allowed are metres, image"),
        ({"labels": np.array([0, 1, 2])}, "labels 0..2 for 2 classes"),
        ({"labels": np.array([0, -1, 1])}, "labels -1..1 for 2 classes"),
        ({"bodies": np.array([3, 2, 1])}, "a clip without a frame, or with bodies of different lengths"),
        ({"bodies": np.array([1, 0, 1])}, "a clip without a frame"),
        (
            {"layout": Layout("two", ("a", "b"), ((0, 1),), 0)},
            r"joints float32 of shape \[3, 3\], layout two wants float32 \[2, 3\]",
        ),
    ],
)
def test_what_does_not_hold_together_is_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(small(), **change)


@pytest.mark.parametrize(
    "edges", [((0, 1),), ((0, 1), (1, 0), (2, 3)), ((0, 1), (0, 2), (3, 2)), ((0, 1), (2, 1), (4, 1))]
)
def test_edges_that_are_no_tree_are_refused(edges: tuple):
    with pytest.raises(ValueError, match=r"layout odd: \d edges do not join 4 joints to a tree"):
        Layout("odd", ("a", "b", "c", "d"), edges, 0)


def test_a_centre_that_is_no_joint_is_refused():
    with pytest.raises(ValueError, match=r"layout three: centre or pairs name a joint outside 0\.\.2"):
        replace(LAYOUT, centre=3)


def test_parents_follow_edges_and_the_root_is_its_own():
    assert LAYOUT.parents == [1, 1, 1]


def test_a_file_that_is_none_says_what_to_do(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"skeletons\.h5: no skeleton cache here; make it with `mmcl prepare`"):
        read_skeletons(tmp_path / "skeletons.h5")
    write_table(tmp_path / "other.h5", {"joints": np.zeros((2, 3))}, {"a": 1})
    with pytest.raises(ValueError, match="an HDF5 file, but not a skeleton cache; make it with `mmcl prepare`"):
        read_skeletons(tmp_path / "other.h5")
    write_table(tmp_path / "flat.h5", {"joints": np.zeros((2, 3))}, {"meta": "{}"})
    with pytest.raises(ValueError, match="no ragged column 'joints'; make it again"):
        read_skeletons(tmp_path / "flat.h5")
    (tmp_path / "torn.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(OSError, match=r"torn\.h5: not a readable HDF5 file"):
        read_skeletons(tmp_path / "torn.h5")


def test_a_body_rule_that_is_none_and_a_class_counted_twice_are_refused():
    with pytest.raises(ValueError, match="body rule none; allowed are zero, repeat"):
        Split(np.zeros(3, np.int8), "none")
    with pytest.raises(ValueError, match="counts a class twice"):
        Split(np.zeros(3, np.int8), "zero", (1, 1))


def test_a_split_counts_its_own_classes(tmp_path: Path):
    """Labels are counted among the classes of the split; a clip of another class is -1."""
    sides = np.array([OUT, TRAIN, TEST], np.int8)
    write_skeletons(tmp_path / "own.h5", replace(small(), splits={"drinks": Split(sides, "repeat", (1,))}))
    found = read_skeletons(tmp_path / "own.h5")
    assert found.splits["drinks"].body_rule == "repeat"
    assert found.split_classes("drinks") == ("drink with é",)
    assert found.split_labels("drinks").tolist() == [-1, 0, 0]
    assert small().split_classes("xsub") == small().classes and small().split_labels("xsub").tolist() == [0, 1, 1]


def test_a_transfer_comes_back_and_leaves_the_digest_alone(tmp_path: Path):
    joints = (((0, 1.0),), ((0, 0.5), (1, 0.5)), ((2, 1.0),))
    transfer = Transfer("other", LAYOUT, joints, {"wave": "greet"}, "ours")
    write_skeletons(tmp_path / "to.h5", replace(small(), transfers=(transfer,)))
    found = read_skeletons(tmp_path / "to.h5")
    assert found.transfers == (transfer,) and found.digest == small().digest
    with pytest.raises(ValueError, match="transfer from other: 2 joints made, wanted three"):
        replace(transfer, joints=joints[:2])


def test_a_description_that_lacks_something_says_what(tmp_path: Path):
    write_skeletons(tmp_path / "whole.h5", small())
    columns, attributes = read_table(tmp_path / "whole.h5")
    meta = json.loads(str(attributes["meta"]))
    del meta["layout"]
    write_table(tmp_path / "less.h5", columns, {"meta": json.dumps(meta)})
    with pytest.raises(ValueError, match="a skeleton cache without 'layout'; make it again"):
        read_skeletons(tmp_path / "less.h5")
