"""Pickles read as data: arrays come out as they went in, and nothing of a stranger's file is run."""

from __future__ import annotations

import os
import pickle
import pickletools
import random
import struct
from collections import OrderedDict
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from mmcl.cache import unpickle
from mmcl.cache.unpickle import load_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = {
    "half": np.arange(12, dtype=np.float16).reshape(2, 2, 3),
    "single by columns": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "every second": np.arange(6)[::2],
    "big endian": np.arange(3, dtype=">f4"),
    "bytes": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False]),
    "no axes": np.array(2.5),
    "empty": np.zeros((1, 0, 25, 3)),
    "text": np.array(["né", "b"]),
    "byte strings": np.array([b"a", b"bcd"]),
}
PLAIN = {
    "nested": {"split": {"train": ["a", "é"]}, "annotations": [{"label": 3, "img_shape": (1080, 1920)}]},
    "values": [None, True, False, 0, -1, 300, 70_000, 10**30, 1.5, b"\xff", b"", "", (), (1, 2, 3, 4)],
    "numpy's numbers": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ab")],
    "number keys": {1: "a", 2.5: "b", np.int64(7): "c", None: "d"},
}


def load(content: bytes, folder: Path) -> object:
    path = folder / "stranger.pkl"
    path.write_bytes(content)
    return load_arrays(path)


def of_numpy_1(content: bytes) -> bytes:
    """The pickle as numpy 1 wrote it: its modules were numpy.core."""
    shorter = content.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    shorter = shorter.replace(b"\x8c\x13numpy._core.numeric", b"\x8c\x12numpy.core.numeric")
    return shorter.replace(b"cnumpy._core", b"cnumpy.core")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_out_as_they_went_in(name, protocol, tmp_path):
    array = ARRAYS[name]
    for content in (written := pickle.dumps(array, protocol), of_numpy_1(written)):
        found = load(content, tmp_path)
        assert type(found) is np.ndarray
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PLAIN)
def test_plain_data_comes_out_as_it_went_in(name, protocol, tmp_path):
    found = load(pickle.dumps(PLAIN[name], protocol), tmp_path)
    assert found == PLAIN[name]
    assert repr(found) == repr(PLAIN[name])  # types, too


def test_what_is_there_twice_is_one_object(tmp_path):
    """An array's pickle is remembered before it is filled."""
    array = np.arange(3)
    first, second, inner = load(pickle.dumps([array, array, [array]]), tmp_path)
    assert first is second is inner[0]
    np.testing.assert_array_equal(first, array)


def test_python_2_wrote_arrays_and_text_as_byte_strings(tmp_path):
    raw = struct.pack("<2f", 1.5, -2)
    dtype = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    begun = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    array = begun + b"(K\x01(K\x02t" + dtype + b"I00\nU\x08" + raw + b"tb"
    name, found = load(b"\x80\x02U\x02\xe9a" + array + b"\x86.", tmp_path)
    assert name == "éa"
    np.testing.assert_array_equal(found, np.array([1.5, -2], np.float32))


class Called:
    """Pickles itself as a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple:
        return self._call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_in_a_pickle_is_named_and_not_run(protocol, tmp_path):
    marker = tmp_path / "ran"
    for call in (Called(os.system, f"touch {marker}"), Called(eval, f"open({str(marker)!r}, 'w')")):
        with pytest.raises(ValueError, match=r"stranger\.pkl: .*it wants \S+(system|eval), which is not run"):
            load(pickle.dumps([np.zeros(3), call], protocol), tmp_path)
    assert not marker.exists()


def named(module: str, name: str, *, stacked: bool) -> bytes:
    """A call of module.name("x"), named by GLOBAL or by STACK_GLOBAL."""
    if not stacked:
        return f"\x80\x02c{module}\n{name}\n(X\x01\0\0\0xtR.".encode("latin1")
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + texts + b"\x93\x8c\x01x\x85R."


GADGETS = [
    *(("builtins", "getattr"), ("builtins", "exec"), ("builtins", "bytes"), ("__builtin__", "eval")),
    *(("posix", "system"), ("subprocess", "Popen"), ("copyreg", "_reconstructor"), ("operator", "methodcaller")),
    *(("numpy", "load"), ("numpy", "fromfile"), ("numpy", "memmap"), ("numpy.f2py", "compile")),
    *(("numpy.testing._private.utils", "runstring"), ("numpy.core.multiarray", "fromfile")),
    *(("numpy.core.multiarray", "os.system"), ("numpy._core.multiarray", "_reconstruct.__globals__")),
    *(("numpy", "_core.multiarray.scalar"), ("numpy", "dtype.__class__"), ("numpy.core.multiarray", "frombuffer")),
    *(("_codecs", "decode"), ("_codecs", "lookup"), ("torch.storage", "_load_from_bytes"), ("", "")),
]


@pytest.mark.parametrize("stacked", [False, True], ids=["global", "stack-global"])
@pytest.mark.parametrize("gadget", GADGETS, ids=".".join)
def test_no_name_but_those_of_arrays_is_known(gadget, stacked, tmp_path):
    with pytest.raises(ValueError, match="which is not run"):
        load(named(*gadget, stacked=stacked), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"(S'id'\nios\nsystem\n.", "INST os system, which is not done"),
        (b"Pname\n.", "PERSID name"),
        (b"\x80\x02NQ.", "BINPERSID"),
        (b"\x80\x02\x82\x01.", "EXT1 1"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4 1"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
        (b"\x80\x02}}b.", "sets the state of what has none"),
        (b"\x80\x02]}b.", "sets the state of what has none"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "sets the state of what has none"),
        (b"\x80\x02X\x01\0\0\0x)R.", "calls what is no constructor"),
        (b"\x80\x02cnumpy\nndarray\n(K\x02tR.", "an array is made in an unknown way"),
        (b"\x80\x02cnumpy\nndarray\nX\x01\0\0\0xR.", "calls what is no constructor"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\0\0\0xX\x03\0\0\0hextR.", "bytes are made in an unknown way"),
        (b"\x80\x02c__builtin__\nbytes\n(J\xff\xff\xff\x7ftR.", "bytes are made in an unknown way"),
        (b"\x80\x04]]\x93.", "what has no name"),
        (b"\x80\x02)Na.", "appends to what is no list"),
        (b"\x80\x02]NNs.", "sets items of what is no dict"),
        (b"\x80\x02}(NNNu.", "longer|shorter"),
        (b"\x80\x02h\x07.", "refers to what is not there"),
        (b"\x80\x02t.", "not a pickle of arrays"),
        (b".", "not a pickle of arrays"),
        (b"", "exhausted"),
        (b"PK\x03\x04 a zip, not a pickle", "not a pickle of arrays"),
        (b"not a pickle", "not a pickle of arrays"),
    ],
)
def test_whatever_else_a_pickle_may_ask_is_refused(content, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        load(content, tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        np.array([{"code": "runs"}], object),
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, complex),
        np.zeros(2, "V3"),
        OrderedDict(a=1),
        {(1, 2): 3},
        {1, 2},
        np.random.default_rng(0),
        np.array,
    ],
    ids=repr,
)
def test_other_objects_than_plain_arrays_are_refused(value, tmp_path):
    with pytest.raises(ValueError, match=r"stranger\.pkl: not a pickle of arrays"):
        load(pickle.dumps(value), tmp_path)


def array_pickle(state: tuple, code: str = "f4", dtype_state: tuple = (3, "<", None, None, None, -1, -1, 0)) -> bytes:
    """A pickle of an array, its state and its dtype's as given; DTYPE in a state stands for that dtype."""
    plain = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731 - without its beginning and end
    dtype = b"cnumpy\ndtype\n" + plain((code, False, True)) + b"R" + plain(dtype_state) + b"b"
    begun = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    return b"\x80\x03" + begun + b"(" + b"".join(dtype if item is DTYPE else plain(item) for item in state) + b"tb."


DTYPE = object()


def test_an_array_written_by_hand_is_read(tmp_path):
    """What the next tests spoil."""
    found = load(array_pickle((1, (2,), DTYPE, False, struct.pack("<2f", 1, 2).decode("latin1"))), tmp_path)
    np.testing.assert_array_equal(found, np.array([1, 2], np.float32))


@pytest.mark.parametrize(
    "state",
    [
        (1, (2,), DTYPE, False, "a" * 7),
        (1, (2,), DTYPE, False, "a" * 9),
        (1, (3,), DTYPE, False, "a" * 8),
        (1, (1 << 62,), DTYPE, False, ""),
        (1, (1 << 40, 0), DTYPE, False, ""),
        (1, (1 << 32, 1 << 32), DTYPE, False, ""),
        (1, (-2, -1), DTYPE, False, "a" * 8),
        (1, (2.0,), DTYPE, False, "a" * 8),
        (1, (True,), DTYPE, False, "a" * 4),
        (1, (1,) * 65, DTYPE, False, "a" * 4),
        (1, 2, DTYPE, False, "a" * 8),
        (1, (2,), DTYPE, False, [1.0, 2.0]),
        (1, (2,), DTYPE, "C", "a" * 8),
        (1, (2,), "f4", False, "a" * 8),
        (0, (2,), DTYPE, False, "a" * 8),
        ((2,), DTYPE, False, "a" * 8),
        (1, (2,), DTYPE, False, "\N{EURO SIGN}" * 8),
    ],
    ids=str,
)
def test_an_arrays_state_that_does_not_agree_never_reaches_numpy(state, tmp_path):
    with pytest.raises(ValueError, match="not a pickle of arrays, or a damaged one"):
        load(array_pickle(state), tmp_path)


@pytest.mark.parametrize(
    ("code", "dtype_state"),
    [
        ("O8", (3, "|", None, None, None, -1, -1, 63)),
        ("V8", (3, "|", None, ("a",), {"a": 1}, 8, 1, 0)),
        ("f4", (3, "|", None, ("a",), {"a": 1}, 4, 1, 0)),
        ("f4", (3, "|", ("f4", (2,)), None, None, 4, 1, 0)),
        ("f4", (3, "<", None, None, None, 8, -1, 0)),
        ("f4", (3, "x", None, None, None, -1, -1, 0)),
        ("f4", (4, "<", None, None, None, -1, -1, 0, {})),
        ("f4", {}),
        ("f4,O", (3, "|", None, None, None, -1, -1, 0)),
        ("(2,)f4", (3, "|", None, None, None, -1, -1, 0)),
        ("os", (3, "|", None, None, None, -1, -1, 0)),
        ("S0", (3, "|", None, None, None, 0, 1, 0)),
        ("S99999999", (3, "|", None, None, None, -1, 1, 0)),
        ("f3", (3, "<", None, None, None, -1, -1, 0)),
        ("U1", (3, "<", None, None, None, 4, 4, 8)),
    ],
    ids=str,
)
def test_only_plain_dtypes_are_made(code, dtype_state, tmp_path):
    """The bytes are no text, either: the last case."""
    with pytest.raises(ValueError, match="not a pickle of arrays, or a damaged one"):
        load(array_pickle((1, (2,), DTYPE, False, "\xff" * 8), code, dtype_state), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"few",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"few",
        b"\x80\x03B" + struct.pack("<I", (1 << 32) - 1) + b"few",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"few",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 45) + b"few",
        b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"few",
        b"\x80\x02\x8b" + struct.pack("<i", -1) + b"few",
        b"\x80\x02X" + struct.pack("<I", (1 << 32) - 1) + b"few",
        b"I" + b"9" * 100_000 + b"\n.",
    ],
    ids=lambda content: content[:12].hex(),
)
def test_a_size_that_the_file_only_claims_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"stranger\.pkl"):
        load(content, tmp_path)


def test_a_far_place_in_the_memo_takes_no_memory(tmp_path):
    """Python's own unpickler makes a list as long as the number says: 32 GB here."""
    assert load(b"\x80\x02K\x05r" + struct.pack("<I", (1 << 31) - 1) + b".", tmp_path) == 5


def test_depth_is_no_matter_but_for_a_key(tmp_path):
    """Python would end the process over the hash of so deep a tuple."""
    deep = 300_000
    found = load(b"]" * deep + b"a" * (deep - 1) + b".", tmp_path)
    assert type(found) is list
    with pytest.raises(ValueError, match="by what is no key"):
        load(b"\x80\x02})" + b"\x85" * deep + b"Ns.", tmp_path)


def test_half_a_character_is_no_text(tmp_path):
    """Nothing that is made of it could be written."""
    with pytest.raises(ValueError, match="surrogates not allowed"):
        load(pickle.dumps("\ud800"), tmp_path)


def test_what_a_stranger_wrote_is_shown_in_short(tmp_path):
    with pytest.raises(ValueError, match="which is not run") as refused:
        load(named("m" * 5000, "n", stacked=False), tmp_path)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_anywhere_is_refused(protocol, tmp_path):
    content = pickle.dumps({"keypoint": np.arange(4, dtype=np.float16), "label": 3, "name": "S001"}, protocol)
    for size in range(len(content)):
        with pytest.raises(ValueError, match="not a pickle of arrays, or a damaged one"):
            load(content[:size], tmp_path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_turned_at_random_end_in_data_or_in_a_refusal(protocol, tmp_path):
    rng = random.Random(protocol)  # noqa: S311 - the same bytes each time
    content = pickle.dumps([{"keypoint": np.ones((2, 3), np.float16), "label": np.int64(3)}] * 2, protocol)
    outcomes = {"data": 0, "refused": 0}
    for _ in range(400):
        turned = bytearray(content)
        for place in rng.sample(range(len(turned)), 2):
            turned[place] = rng.randrange(256)
        try:
            load(bytes(turned), tmp_path)
            outcomes["data"] += 1
        except ValueError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_every_step_is_an_opcode():
    assert set(unpickle.STEPS) <= {opcode.name for opcode in pickletools.opcodes}


def test_what_comes_after_the_end_is_nobodys(tmp_path):
    assert load(b"\x80\x02K\x05." + named("os", "system", stacked=False), tmp_path) == 5


def test_no_file_is_said_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "absent.pkl")


def test_a_zip_is_called_one(tmp_path: Path):
    with ZipFile(tmp_path / "poses.pkl", "w") as archive:
        archive.writestr("poses.pkl", pickle.dumps([1]))
    with pytest.raises(ValueError, match="it is a zip; unpack it, and give the file in it"):
        load_arrays(tmp_path / "poses.pkl")
