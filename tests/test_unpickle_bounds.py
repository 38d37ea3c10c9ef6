"""Pickles of strangers take no more memory and time than their size tells, and nothing but data comes out."""

from __future__ import annotations

import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcl.cache import unpickle
from mmcl.cache.unpickle import load_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
MANY = 100_000


def load(content: bytes, folder: Path) -> Any:
    path = folder / "stranger.pkl"
    path.write_bytes(content)
    return load_arrays(path)


def plain(value: object) -> bytes:
    """A pickle without its beginning and end, and without places in the memo."""
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def dtype(code: str, order: str) -> bytes:
    return b"cnumpy\ndtype\n" + plain((code, 0, 1)) + b"R" + plain((3, order, None, None, None, -1, -1, 0)) + b"b"


def kept(content: bytes, place: int) -> bytes:
    """What makes a value, with that value kept for `h` and its place."""
    return content + b"q" + bytes([place])


def repeated(beginning: bytes, item: bytes, times: int) -> bytes:
    """A list of as many times the same, each made anew of what the beginning keeps."""
    return b"\x80\x03" + beginning + b"](" + item * times + b"e."


F4 = dtype("f4", "<")
RAW = kept(b"B" + struct.pack("<I", MANY) + bytes(MANY), 1)
TEXT = kept(b"X" + struct.pack("<I", MANY) + b"a" * MANY, 1)
LATIN = kept(plain("latin1"), 2)
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
BEGIN = kept(RECONSTRUCT, 4) + kept(b"(cnumpy\nndarray\nK\0\x85U\1bt", 5)
BEGUN = RECONSTRUCT + b"(cnumpy\nndarray\n(K\0tU\1btR"
EMPTY = b"(K\1K\0\x85" + F4 + b"\x89U\0t"  # the state of an array of nothing
FILLED = b"(K\1" + plain((MANY // 4,)) + F4 + b"\x89h\1t"

BOMBS = {
    "encoded": repeated(kept(b"c_codecs\nencode\n", 3) + TEXT + LATIN, b"h\3h\1h\2\x86R", 20),
    "scalars": repeated(
        kept(b"cnumpy.core.multiarray\nscalar\n", 3) + RAW + kept(dtype(f"S{MANY}", "|"), 2), b"h\3h\2h\1\x86R", 20
    ),
    "filled arrays": repeated(TEXT + BEGIN + kept(FILLED, 6), b"h\4h\5Rh\6b", 20),
    "empty arrays": repeated(BEGIN + kept(EMPTY, 6), b"h\4h\5Rh\6b", 1000),
    "lists": b"]" * 30_000 + b".",
    "places in the memo": b"K\0" + b"\x94" * 30_000 + b".",
    "words": repeated(b"", b"cnumpy\ndtype\n", 3000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_makes_much_more_than_its_size_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(unpickle, "SPARE", 1 << 20)
    with pytest.raises(ValueError, match=r"unfolds to more than 4 times its size and another 1,048,576 bytes"):
        load(BOMBS[name], tmp_path)


@pytest.mark.parametrize("name", ["encoded", "scalars", "filled arrays", "empty arrays"])
def test_what_a_bomb_is_made_of_is_allowed_in_small(name, tmp_path):
    """Within what there is to spare: it is the amount that is refused."""
    found = load(BOMBS[name], tmp_path)
    assert len(found) == (1000 if name == "empty arrays" else 20)
    assert all(type(item) in (bytes, np.bytes_, np.ndarray) for item in found)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_of_skeletons_makes_little_more_than_its_size(protocol, tmp_path, monkeypatch):
    """Nothing to spare, and short clips: what a real file needs is well below what it may."""
    monkeypatch.setattr(unpickle, "SPARE", 0)
    size, shape = (1080, 1920), (1, 60, 17)
    clips = [
        {
            "frame_dir": f"S001C001P001R001A{number:03}",
            "label": number,
            "total_frames": 60,
            "img_shape": size,
            "original_shape": size,
            "keypoint": np.ones((*shape, 2), np.float16),
            "keypoint_score": np.ones(shape, np.float16),
        }
        for number in range(50)
    ]
    split = {"xsub_train": [clip["frame_dir"] for clip in clips], "xsub_val": []}
    found = load(pickle.dumps({"split": split, "annotations": clips}, protocol), tmp_path)
    assert len(found["annotations"]) == 50


def test_numbers_that_all_collide_are_few(tmp_path):
    """Each would be compared with all before it; text can't be chosen to collide."""
    keys = [(2**61 - 1) * number for number in range(1, 10_002)]
    few = dict.fromkeys(keys[:100])
    assert load(pickle.dumps(few), tmp_path) == few
    items = [plain(key) + b"N" for key in keys]
    for many in (b"}(" + b"".join(items) + b"u.", b"](" + b"".join(b"}" + item + b"s" for item in items) + b"e."):
        with pytest.raises(ValueError, match="more than 10,000 numbers as keys of dicts"):
            load(b"\x80\x02" + many, tmp_path)
    assert len(load(pickle.dumps(dict.fromkeys(map(str, keys))), tmp_path)) == 10_001


@pytest.mark.parametrize("key", ["a" * 1001, b"a" * 1001], ids=["text", "bytes"])
def test_long_text_is_no_key(key, tmp_path):
    """Two that are equal would be compared in full, each time."""
    assert load(pickle.dumps({key[1:]: 1}, 4), tmp_path) == {key[1:]: 1}
    with pytest.raises(ValueError, match="by what is no key"):
        load(pickle.dumps({key: 1}, 4), tmp_path)


def test_an_integer_of_thousands_of_bits_is_refused(tmp_path):
    assert load(pickle.dumps(2**1024 - 1), tmp_path) == 2**1024 - 1
    with pytest.raises(ValueError, match="an integer of 1,025 bits"):
        load(pickle.dumps(2**1024), tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b""), (b"]", b"a"), (b"}X\1\0\0\0a", b"s"), (b"", b"\x85"), (b"]]](", b"\x85eaa")],
    ids=["alone", "in a list", "in a dict", "in a tuple", "deep"],
)
@pytest.mark.parametrize("what", [b"cnumpy\ndtype\n", BEGUN, F4], ids=["name", "begun array", "dtype"])
def test_what_is_no_data_does_not_come_out(what, before, after, tmp_path):
    with pytest.raises(ValueError, match="it ends with an array that is not finished, or with a name"):
        load(before + what + after + b".", tmp_path)


def test_a_list_within_itself_comes_out(tmp_path):
    found = load(b"]q\0h\0a.", tmp_path)
    assert type(found) is list and found[0] is found
