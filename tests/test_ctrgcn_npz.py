"""CTR-GCN's npz files to a skeleton cache: real bodies and frames, the one split, names by the list beside the file."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import TEST, TRAIN, read_skeletons
from mmcl.pipeline.datasets.ctrgcn import ABSENT, CENTRED, CUT, NAMES, REPEATED, UNNAMED, UNORDERED, CtrGcn
from mmcl.pipeline.datasets.ntu_classes import CLASSES
from mmcl.pipeline.preparation.npz import NpzArray
from mmcl.pipeline.preparation.prepare import Prepared, prepare

FRAMES = 12


def run(path: Path) -> Prepared:
    return prepare("mine", CtrGcn(path), path.parent / "out", lambda done, total: None)


def clip(frames: int, second: str = "none") -> np.ndarray:
    """A row [FRAMES, 150]: so many frames, and a second body that is none, the first again or another."""
    rng = np.random.default_rng(frames)
    first, other = rng.normal(size=(2, frames, 75)).astype(np.float32)
    row = np.zeros((FRAMES, 150), np.float32)
    row[:frames, :75] = first
    row[:frames, 75:] = {"none": np.zeros_like(first), "repeat": first, "other": other}[second]
    return row


Rows = list[tuple[int, np.ndarray]]  # labels and clips


def write(
    path: Path, train: Rows, test: Rows, *, classes: int = 60, compressed: bool = False, **replaced: object
) -> Path:
    """An npz file as CTR-GCN's script writes it, with arrays replaced, or left out for None."""
    arrays: dict[str, object] = {}
    for side, rows in (("train", train), ("test", test)):
        arrays[f"x_{side}"] = np.stack([row for _, row in rows])
        arrays[f"y_{side}"] = np.eye(classes)[[label for label, _ in rows]]
    kept = {key: array for key, array in (arrays | replaced).items() if array is not None}
    (np.savez_compressed if compressed else np.savez)(path, **kept)
    return path


def test_many_clips_of_one_file_are_all_there(tmp_path):
    """More than are read at a time, each with its own frames."""
    train, test = ([(number % 60, clip(1 + number % 9)) for number in range(start, start + 40)] for start in (0, 3))
    found = run(write(tmp_path / "NTU60_CS.npz", train, test)).skeletons
    assert len(found.names) == 80
    assert found.frames.tolist() == [1 + number % 9 for start in (0, 3) for number in range(start, start + 40)]


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
def test_ntu60s_clips_have_their_real_frames_and_bodies(compressed, tmp_path):
    train, test = [(4, clip(5)), (49, clip(7, "other"))], [(0, clip(12)), (59, clip(1))]
    found = run(write(tmp_path / "NTU60_CS.npz", train, test, compressed=compressed))
    cache = read_skeletons(tmp_path / "out" / "skeletons.h5")
    assert cache.names == ("train-000001", "train-000002", "test-000001", "test-000002")
    assert cache.classes == CLASSES[:60]
    assert cache.labels.tolist() == [4, 49, 0, 59]
    assert cache.bodies.tolist() == [1, 2, 1, 1]
    assert cache.frames.tolist() == [5, 7, 12, 1]
    assert (cache.layout.name, cache.coordinates, dict(cache.columns)) == ("kinect-v2", "metres", {})
    one, two = train[0][1], train[1][1]
    np.testing.assert_array_equal(cache.joints[0], one[:5, :75].reshape(5, 25, 3))
    np.testing.assert_array_equal(cache.joints[1][:7], two[:7, :75].reshape(7, 25, 3))
    np.testing.assert_array_equal(cache.joints[1][7:], two[:7, 75:].reshape(7, 25, 3))
    assert list(cache.splits) == ["xsub"]
    assert cache.splits["xsub"].sides.tolist() == [TRAIN, TRAIN, TEST, TEST]
    assert cache.splits["xsub"].body_rule == "zero"
    assert found.counts == {CUT: 7 + 5 + 0 + 11, ABSENT: 3, REPEATED: 0}
    assert found.warnings[:3] == ["a file of CTR-GCN's holds one split: this one is xsub", CENTRED, UNNAMED]
    assert "xsub: 2 train / 2 test, published are 40,091 / 16,487" in found.warnings


def test_ntu120s_repeated_bodies_are_one_body_that_the_split_repeats(tmp_path):
    train, test = [(119, clip(5, "repeat")), (50, clip(6, "other"))], [(60, clip(4, "repeat"))]
    found = run(write(tmp_path / "NTU120_CSet.npz", train, test, classes=120))
    assert found.skeletons.classes == CLASSES
    assert found.skeletons.bodies.tolist() == [1, 2, 1]
    assert found.skeletons.splits["xset"].body_rule == "repeat"
    assert found.counts[REPEATED] == 2
    assert "xset: 2 train / 1 test, published are 54,468 / 59,477" in found.warnings


def test_frames_without_a_body_in_the_middle_stay(tmp_path):
    row = clip(6, "other")
    row[2:4] = 0
    found = run(write(tmp_path / "NTU60_CV.npz", [(0, row)], [(1, clip(3))])).skeletons
    assert found.frames.tolist() == [6, 3]
    assert not found.joints[0].reshape(2, 6, 25, 3)[:, 2:4].any()
    assert list(found.splits) == ["xview"]


@pytest.mark.parametrize(
    ("name", "split"),
    [("NTU60_CS", "xsub"), ("NTU120_CSub", "xsub"), ("NTU60_CV", "xview"), ("NTU120_CSet", "xset"), ("mine", "given")],
)
def test_the_split_is_told_by_the_files_name(name, split, tmp_path):
    path = write(tmp_path / f"{name}.npz", [(0, clip(5))], [(1, clip(3))], classes=7)
    facts = CtrGcn(path).facts
    assert list(facts.splits) == [split]
    assert facts.classes == tuple(f"class {label}" for label in range(7))


def test_a_clip_of_zeros_is_a_finding(tmp_path):
    found = run(write(tmp_path / "NTU60_CS.npz", [(0, clip(5)), (1, clip(0))], [(1, clip(3))]))
    assert found.skeletons.names == ("train-000001", "test-000001")
    assert [(f.file, f.found) for f in found.findings] == [("train-000002", "no frames: all coordinates are zero")]


LISTED = (  # in the list's order, which is by setup first
    *("S001C001P001R001A005", "S001C001P003R001A007", "S001C002P001R001A005", "S001C002P002R001A050"),
    *("S002C001P001R001A001", "S002C003P003R002A060"),
)
XSUB = {  # by performer, and in the list's order within one
    "train": ("S001C001P001R001A005", "S001C002P001R001A005", "S002C001P001R001A001", "S001C002P002R001A050"),
    "test": ("S001C001P003R001A007", "S002C003P003R002A060"),
}
XVIEW = {
    "train": ("S001C002P001R001A005", "S001C002P002R001A050", "S002C003P003R002A060"),
    "test": ("S001C001P001R001A005", "S001C001P003R001A007", "S002C001P001R001A001"),
}


def write_named(path: Path, sides: dict[str, tuple[str, ...]], listed: tuple[str, ...] = LISTED) -> Path:
    """A file whose rows are of these names: a clip's number of frames tells which it is; and the list beside it."""
    rows = {
        side: [(int(name[-3:]) - 1, clip(1 + LISTED.index(name))) for name in names] for side, names in sides.items()
    }
    path.parent.mkdir(exist_ok=True)
    (path.parent / NAMES).write_text("\n".join(listed) + "\n")
    return write(path, rows["train"], rows["test"])


@pytest.mark.parametrize(("name", "sides"), [("NTU60_CS", XSUB), ("NTU60_CV", XVIEW)], ids=["xsub", "xview"])
def test_names_come_from_the_list_by_the_order_of_the_rows(name, sides, tmp_path):
    found = run(write_named(tmp_path / f"{name}.npz", sides))
    cache = found.skeletons
    assert cache.names == (*sides["train"], *sides["test"])
    assert [LISTED[frames - 1] for frames in cache.frames] == list(cache.names)
    (split,) = cache.splits.values()
    assert split.sides.tolist() == [TRAIN] * len(sides["train"]) + [TEST] * len(sides["test"])
    row = cache.names.index("S002C003P003R002A060")
    assert {name: values[row] for name, values in cache.columns.items()} == {
        "setup": 2,
        "camera": 3,
        "subject": 3,
        "trial": 2,
    }
    assert UNNAMED not in found.warnings


def test_setups_order_the_rows_of_xset(tmp_path):
    names = ("S018C001P041R001A061", "S002C001P001R001A001", "S019C001P041R001A061", "S001C001P001R001A003")
    (tmp_path / "statistics").mkdir()
    (tmp_path / "statistics" / NAMES).write_text("\r\n".join(names))
    rows = [(0, clip(2)), (60, clip(1))], [(2, clip(4)), (60, clip(3))]
    found = run(write(tmp_path / "NTU120_CSet.npz", *rows, classes=120)).skeletons
    assert found.names == (names[1], names[0], names[3], names[2])


def test_names_of_other_classes_are_not_of_the_file(tmp_path):
    """NTU120's list beside a file of NTU60."""
    more = (*LISTED, "S018C001P041R001A061")
    assert run(write_named(tmp_path / "NTU60_CS.npz", XSUB, more)).skeletons.names == (*XSUB["train"], *XSUB["test"])


def test_a_list_that_does_not_fit_is_refused_with_the_first_row_that_differs(tmp_path):
    swapped = XSUB | {"train": (XSUB["train"][0], *XSUB["train"][2:], XSUB["train"][1])}
    said = "not the names of this file: x_train row 1 has label 1, by its order it is S001C002P001R001A005"
    with pytest.raises(ValueError, match=said):
        CtrGcn(write_named(tmp_path / "NTU60_CS.npz", swapped))


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (LISTED[:-1], "xsub has 1 names that test, the npz file 2; another list?"),
        ((*LISTED, LISTED[0]), "name 7, S001C001P001R001A005, is there twice"),
        ((*LISTED, "S001C001"), "name 7, S001C001: name is not of the form"),
        ((), "xsub has 0 names that train, the npz file 4"),
    ],
)
def test_a_damaged_list_is_refused(listed, said, tmp_path):
    with pytest.raises(ValueError, match=rf"{NAMES}.* {said}".replace("?", r"\?")):
        CtrGcn(write_named(tmp_path / "NTU60_CS.npz", XSUB, listed))


def test_a_list_beside_a_file_of_no_known_split_is_not_used(tmp_path):
    found = run(write_named(tmp_path / "mine.npz", XSUB))
    assert found.skeletons.names[0] == "train-000001"
    assert {UNNAMED, UNORDERED} <= set(found.warnings)


def test_a_list_that_comes_later_is_used_by_the_next_run(tmp_path):
    path = write_named(tmp_path / "NTU60_CS.npz", XSUB)
    (tmp_path / NAMES).rename(tmp_path / "kept.txt")
    assert run(path).skeletons.names[0] == "train-000001"
    assert run(path).again
    (tmp_path / "kept.txt").rename(tmp_path / NAMES)
    found = run(path)
    assert not found.again
    assert found.skeletons.names == (*XSUB["train"], *XSUB["test"])


GOOD = [(0, clip(5)), (1, clip(6))], [(2, clip(7))]


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"y_test": None}, r"no y_test in it; it holds x_test, x_train, y_train"),
        ({"x_train": np.zeros((2, 3, 12, 25, 2), np.float32)}, r"x_train is \[2, 3, 12, 25, 2\]; wanted \[clips"),
        ({"x_train": np.zeros((2, 12, 60), np.float32)}, r"x_train is \[2, 12, 60\]"),
        ({"x_train": np.zeros((2, 0, 150), np.float32)}, r"x_train is \[2, 0, 150\]"),
        ({"x_train": np.asfortranarray(np.ones((2, 12, 150), np.float32))}, "x_train is float32 .* no rows of numbers"),
        ({"x_train": np.array([{"code": 1}], object)}, r"x_train is object \[1\], no rows of numbers"),
        ({"x_train": np.full((2, 12, 150), "a")}, "x_train is <U1"),
        ({"x_train": np.float32(3)}, r"x_train is float32 \[\], no rows"),
        ({"y_train": np.zeros((2, 60))}, "y_train: row 0 is not one-hot"),
        ({"y_test": np.ones((1, 60))}, "y_test: row 0 is not one-hot"),
        ({"y_train": np.array([0, 1])}, r"y_train is \[2\]; wanted \[2, 'classes'\]"),
        ({"y_test": np.eye(60)[:2]}, r"y_test is \[2, 60\]; wanted \[1, 'classes'\]"),
        ({"y_test": np.eye(120)[:1]}, r"y_test is \[1, 120\]; wanted"),
    ],
    ids=str,
)
def test_other_arrays_are_refused_with_what_is_there(replaced, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        CtrGcn(write(tmp_path / "NTU60_CS.npz", *GOOD, **replaced))


def test_another_npz_is_refused_with_what_it_holds(tmp_path):
    np.savez(tmp_path / "scores.npz", names=np.array(["a"]), scores=np.zeros((1, 60)))
    with pytest.raises(ValueError, match="no x_train, y_train, x_test, y_test in it; it holds names, scores"):
        CtrGcn(tmp_path / "scores.npz")


def test_what_is_no_npz_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npy: not a readable npz file"):
        CtrGcn(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="a folder holds no one split of CTR-GCN's"):
        CtrGcn(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such folder or file; give CTR-GCN's \.npz file"):
        CtrGcn(tmp_path / "absent.npz")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        for key in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{key}.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 'O'}   ")
    with pytest.raises(ValueError, match="x_train can't be read"):
        CtrGcn(tmp_path / "z.npz")


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "NTU60_CS.npz", *GOOD)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match="not a readable npz file"):
        CtrGcn(path)


def test_an_array_that_is_not_all_there_is_refused(tmp_path):
    content = np.lib.format.magic(1, 0)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 12, 150), }"
    path = write(tmp_path / "NTU60_CS.npz", *GOOD, x_train=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", content + len(header).to_bytes(2, "little") + header + bytes(100))
    with pytest.raises(ValueError, match=r"x_train \[9, 12, 150\] is not all there"):
        CtrGcn(path)


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
def test_damaged_bytes_are_said_and_the_clips_after_them_are_not_trusted(compressed, tmp_path):
    """The checksum is of all clips together."""
    path = write(tmp_path / "NTU60_CS.npz", *GOOD, compressed=compressed)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x_train.npy")
    content[info.header_offset + 30 + len(info.filename) + 20 + info.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    found = run(path)
    assert "test-000001" in found.skeletons.names
    assert all(finding.found.startswith("damaged in the npz file") for finding in found.findings)
    assert len(found.findings) > 0
    assert f"{path} is damaged, and other clips may be wrong, too: get it anew" in found.warnings


@pytest.mark.parametrize("compressed", [False, True], ids=["stored", "deflated"])
def test_rows_come_in_any_order(compressed, tmp_path):
    values = np.arange(60.0).reshape(20, 3)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x=values)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        array = NpzArray(archive, "x")
        for start, count in ((3, 2), (5, 4), (0, 1), (19, 1), (7, 0)):
            np.testing.assert_array_equal(array.rows(start, count), values[start : start + count])


def test_memory_is_a_few_rows_however_many_there_are(tmp_path):
    rows = [(0, clip(FRAMES, "other"))] * 400
    path = write(tmp_path / "NTU60_CS.npz", rows, rows[:2])
    whole = 400 * FRAMES * 150 * 4
    tracemalloc.start()
    try:
        raw = CtrGcn(path)
        for file in raw.files():
            raw.reader(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < whole / 2
