"""MATLAB files of strangers: what they hold is known before it is loaded, and bounded."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_array

from mmcl.pipeline.datasets import matlab
from mmcl.pipeline.datasets.matlab import read_joints
from mmcl.pipeline.preparation.raw import RawFile

MARKS = {"<": b"IM", ">": b"MI"}


def joints(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(size=(20, 3, frames))


def part(values: np.ndarray, order: str = "<", name: bytes = b"SW", dims: tuple[int, ...] | None = None) -> bytes:
    """An array as MATLAB 5 writes it; `dims` is what it says of its shape."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    dims = dims or values.shape
    flags = element(6, struct.pack(f"{order}II", 6, 0))
    head = flags + element(5, struct.pack(f"{order}{len(dims)}i", *dims)) + element(1, name)
    return element(14, head + element(9, values.astype(f"{order}f8").tobytes("F")))


def packed(content: bytes, order: str = "<") -> bytes:
    shut = zlib.compress(content)
    return struct.pack(f"{order}II", 15, len(shut)) + shut


def read(content: bytes, folder: Path, order: str = "<") -> np.ndarray:
    path = folder / "stranger.mat"
    version = struct.pack(f"{order}H", 0x0100)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + version + MARKS[order] + content)
    return read_joints(RawFile(path), "SW")


def saved(folder: Path, array: object, **options: object) -> RawFile:
    savemat(folder / "saved.mat", {"SW": array}, **options)
    return RawFile(folder / "saved.mat")


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", "u1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_joints_come_out_as_they_were_saved(compressed: bool, dtype: str, tmp_path: Path):
    array = (100 * np.abs(joints(7))).astype(dtype)
    found = read_joints(saved(tmp_path, array, do_compression=compressed), "SW")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array.astype(np.float32).transpose(2, 0, 1)[None])


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_either_byte_order_are_read(order: str, tmp_path: Path):
    array = joints(4)
    expected = array.astype(np.float32).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(read(part(array, order), tmp_path, order), expected)
    np.testing.assert_array_equal(read(packed(part(array, order), order), tmp_path, order), expected)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And no more of it is unpacked than that."""
    file = saved(tmp_path, np.zeros((20, 3, 50_000)), do_compression=True)
    assert read_joints(file, "SW").shape == (1, 50_000, 20, 3)
    assert file.path.stat().st_size < 100_000
    monkeypatch.setattr(matlab, "UNPACKED", 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it unpacks to more than 1,000,000 bytes; no skeleton is that large"):
            read_joints(file, "SW")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_all_arrays_of_a_file_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matlab, "UNPACKED", 9000)
    one = packed(part(np.zeros((20, 3, 4)), name=b"S1"))
    with pytest.raises(ValueError, match="no array SW in it"):
        read(one * 4, tmp_path)
    with pytest.raises(ValueError, match="unpacks to more than 9,000 bytes"):
        read(one * 5, tmp_path)
    monkeypatch.setattr(matlab, "MOST_ARRAYS", 3)
    with pytest.raises(ValueError, match="more than 3 arrays in it"):
        read(one * 4, tmp_path)


@pytest.mark.parametrize(
    ("dims", "found"),
    [
        ((20, 3, 50_001), "SW of 50,001 frames, wanted up to 50,000"),
        ((20, 3, -1), "SW of -1 frames, wanted up to 50,000"),
        ((20, 3, 4, 5), r"SW of shape \[20, 3, 4, 5\], wanted \[20, 3, frames\]"),
        ((3, 20, 4), r"SW of shape \[3, 20, 4\], wanted \[20, 3, frames\]"),
        ((20, 3, 40_000), "not a readable MATLAB file"),  # and there are 4
    ],
)
def test_another_shape_is_refused_before_the_array_is_loaded(dims: tuple[int, ...], found: str, tmp_path: Path):
    with pytest.raises(ValueError, match=found):
        read(packed(part(joints(4), dims=dims)), tmp_path)


def test_a_size_that_an_array_only_claims_takes_no_memory(tmp_path: Path):
    content = part(joints(4))
    at = content.index(struct.pack("<II", 9, 20 * 3 * 4 * 8)) + 4
    lying = content[:at] + struct.pack("<I", (1 << 31) - 8) + content[at + 4 :]
    for shape in (lying, packed(lying)):
        with pytest.raises(ValueError, match="not a readable MATLAB file"):
            read(shape, tmp_path)


def test_what_is_packed_twice_or_behind_an_array_is_not_unpacked(tmp_path: Path):
    with pytest.raises(ValueError, match="an array is damaged, or cut short"):
        read(packed(packed(part(joints(4)))), tmp_path)
    with pytest.raises(ValueError, match="an array is damaged, or cut short"):
        read(packed(part(joints(4))[:-100]) + packed(part(joints(4), name=b"S1")), tmp_path)
    with pytest.raises(ValueError, match="no array SW in it"):
        read(packed(part(joints(4), name=b"S1") + packed(part(joints(4)))), tmp_path)


@pytest.mark.parametrize("size", [130, 140, 500, 1000])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_is_refused(compressed: bool, size: int, tmp_path: Path):
    file = saved(tmp_path, joints(20), do_compression=compressed)
    file.path.write_bytes(file.path.read_bytes()[:size])
    with pytest.raises(ValueError, match="not a readable MATLAB file"):
        read_joints(file, "SW")


@pytest.mark.parametrize(
    "array",
    [
        np.full((20, 3), "a", object),
        np.full((20, 3), "a"),
        np.zeros((20, 3), [("x", "f8")]),
        np.ones((20, 3, 2), bool),
        csc_array(np.ones((20, 3))),
        np.ones((20, 3, 2), complex),
    ],
    ids=["cells", "text", "structs", "logical", "sparse", "complex"],
)
def test_what_is_not_an_array_of_numbers_is_refused(array: object, tmp_path: Path):
    with pytest.raises(ValueError, match=r"SW is .*, wanted (real )?numbers"):
        read_joints(saved(tmp_path, array), "SW")


def test_other_formats_of_matlab_are_refused_with_what_to_do(tmp_path: Path):
    """The first has no mark; what -v7.3 saves is HDF5 behind a header of the same form."""
    newer = tmp_path / "newer.mat"
    newer.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM" + bytes(400) + b"\x89HDF")
    with pytest.raises(ValueError, match="not of the format that MATLAB 5 to 7 write; save it anew with -v7"):
        read_joints(RawFile(newer), "SW")
    with pytest.raises(ValueError, match="not of the format that MATLAB 5 to 7 write; save it anew with -v7"):
        read_joints(saved(tmp_path, np.ones((20, 3)), format="4"), "SW")
