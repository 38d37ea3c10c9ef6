"""Recipes, and tables on disk: what is written is read back, and nothing half-written lies under a table's name."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcl.cache.files import write_atomic
from mmcl.cache.recipe import FORMAT, Recipe, differences, read_recipe
from mmcl.cache.table import Column, Ragged, concatenate, damaged_rows, read_table, write_table

SETTINGS = {"model": "owner/net", "prompt": "holding-object", "candidates": ["yes", "no"], "size": {"height": 64}}

WRITE_LARGE = """
import resource, sys
import numpy as np
from pathlib import Path
from mmcl.cache.table import Ragged, write_table
folder, limits = Path(sys.argv[1]), [int(limit) for limit in sys.argv[2:]]
rows = [np.full(1000, row, np.uint8) for row in range(64)]
columns = {"jpeg": Ragged.of(rows), "failure": np.zeros(64, "S400"), "feature": np.ones((64, 100), np.float32)}
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_table(folder / "large.h5", columns, {})
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(error.errno, error.strerror, sorted(path.name for path in folder.iterdir()), sep="|")
"""

DAMAGE = """
import json, sys
from pathlib import Path
import numpy as np
from mmcl.cache.table import Ragged, damaged_rows, read_table
def content(path):
    columns, attributes = read_table(path)
    rows = {name: [row.tobytes() for row in column] for name, column in columns.items()}
    return rows, attributes
good, bad = Path(sys.argv[1]), Path(sys.argv[2])
whole, wanted = good.read_bytes(), content(good)
found = {"refused": 0, "named": 0, "as it was": 0, "taken for good": []}
for place in range(0, len(whole), 3):
    bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1:])
    try:
        rows = damaged_rows(bad)
    except OSError:
        found["refused"] += 1
        continue
    if rows:
        found["named"] += 1
    elif content(bad) == wanted:
        found["as it was"] += 1
    else:
        found["taken for good"].append(place)
print(json.dumps(found))
"""


def recipe(**changes: object) -> Recipe:
    return Recipe("text", "acted", SETTINGS | changes)


def columns(rows: int = 5, seed: int = 0) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    return {
        "name": np.array([f"clip{seed}-{row}".encode() for row in range(rows)]),
        "feature": rng.normal(size=(rows, 3)).astype(np.float32),
        "jpeg": Ragged.of([rng.integers(0, 255, row + 1).astype(np.uint8) for row in range(rows)]),
    }


def assert_rows(found: Column, wanted: list) -> None:
    assert len(found) == len(wanted)
    for row, value in enumerate(wanted):
        np.testing.assert_array_equal(found[row], value)


# -- recipes


@pytest.mark.parametrize(
    "other",
    [
        recipe(model="owner/other"),
        recipe(prompt="touching-head"),
        recipe(candidates=["no", "yes"]),
        recipe(size={"height": 65}),
        recipe(dtype="float16"),
        Recipe("rgb", "acted", SETTINGS),
        Recipe("text", "other", SETTINGS),
    ],
    ids=["model", "prompt", "order of answers", "nested value", "new setting", "kind", "data set"],
)
def test_another_recipe_has_another_key(other: Recipe):
    assert other.key != recipe().key


def test_the_key_does_not_depend_on_the_order_of_settings_nor_on_the_process():
    assert Recipe("text", "acted", dict(reversed(SETTINGS.items()))).key == recipe().key == "d315bf43a9f1"


def test_differences_name_what_was_found_and_what_was_wanted():
    found = differences(recipe(), recipe(model="owner/other", dtype="float16"))
    assert found == '  dtype: found -, wanted "float16"\n  model: found "owner/net", wanted "owner/other"'
    assert differences(recipe(), recipe()) == ""


def test_a_recipe_takes_known_kinds_and_json_values_only():
    with pytest.raises(ValueError, match="kind 'sound': a cache is one of person-images, rgb, text"):
        Recipe("sound", "acted", {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        recipe(size=float("nan"))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        b"\xff\xfe",
        json.dumps({"format": FORMAT, "kind": "text", "dataset": "a", "settings": "b"}),
        json.dumps({"format": FORMAT, "kind": "sound", "dataset": "a", "settings": {}}),
        json.dumps({"format": FORMAT + 1}),
    ],
)
def test_a_damaged_recipe_is_refused_with_its_path_and_a_next_step(tmp_path: Path, text: str | bytes):
    (tmp_path / "recipe.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"recipe\.json: not a recipe .*; move .* away and extract again"):
        read_recipe(tmp_path)


def test_a_folder_without_recipe_is_no_cache(tmp_path: Path):
    with pytest.raises(ValueError, match=r"not a cache, recipe\.json is missing"):
        read_recipe(tmp_path)


# -- tables


def test_fixed_and_ragged_columns_and_attributes_come_back_as_they_were(tmp_path: Path):
    wanted = columns()
    write_table(tmp_path / "t.h5", wanted, {"key": "abc", "format": 1})
    found, attributes = read_table(tmp_path / "t.h5")
    assert attributes == {"key": "abc", "format": 1}
    assert set(found) == set(wanted)
    for name, column in wanted.items():
        assert_rows(found[name], [column[row] for row in range(5)])
    assert found["feature"].dtype == np.float32


def test_columns_are_views_into_one_memory_map_so_that_processes_share_them(tmp_path: Path):
    write_table(tmp_path / "t.h5", columns(), {})
    found, _ = read_table(tmp_path / "t.h5")
    arrays = [found["feature"], found["name"], found["jpeg"].values, found["jpeg"].offsets]
    assert {type(array.base) for array in arrays} == {mmap}
    assert len({id(array.base) for array in arrays}) == 1
    with pytest.raises(ValueError, match="read-only"):
        found["feature"][0] = 1


def test_an_opened_table_outlives_its_replacement(tmp_path: Path):
    """As a merge replaces it under a reader."""
    write_table(tmp_path / "t.h5", columns(seed=0), {})
    found, _ = read_table(tmp_path / "t.h5")
    write_table(tmp_path / "t.h5", columns(rows=9, seed=1), {})
    assert_rows(found["feature"], list(columns(seed=0)["feature"]))


def test_attributes_are_of_fixed_length_and_as_long_as_they_need_to_be(tmp_path: Path):
    """Text of variable length can hang its reader; `only` reads those that are asked for."""
    wanted = {"classes": "é" * 100_000, "empty": "", "batch": 16}
    write_table(tmp_path / "t.h5", columns(), wanted)
    assert read_table(tmp_path / "t.h5")[1] == wanted
    assert read_table(tmp_path / "t.h5", only=("batch", "other"))[1] == {"batch": 16}
    with h5py.File(tmp_path / "t.h5") as file:
        assert all(h5py.check_string_dtype(file.attrs.get_id(name).dtype).length for name in ("classes", "empty"))


def test_any_hdf5_reader_can_open_a_table(tmp_path: Path):
    write_table(tmp_path / "t.h5", columns(), {})
    with h5py.File(tmp_path / "t.h5") as file:
        assert file["feature"].shape == (5, 3)


def test_a_column_without_values_is_still_a_column(tmp_path: Path):
    write_table(tmp_path / "t.h5", {"jpeg": Ragged.of([np.zeros(0, np.uint8)] * 2), "empty": np.zeros((2, 0))}, {})
    found, _ = read_table(tmp_path / "t.h5")
    assert len(found["jpeg"][1]) == 0
    assert found["empty"].shape == (2, 0)


def test_columns_of_different_lengths_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"one length are wanted, found \{'a': 2, 'b': 3\}"):
        write_table(tmp_path / "t.h5", {"a": np.zeros(2), "b": np.zeros(3)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", ["feature", "jpeg"])
def test_one_flipped_byte_is_found_in_its_row(tmp_path: Path, column: str):
    path = tmp_path / "t.h5"
    write_table(path, columns(), {})
    with h5py.File(path) as file:
        values = file["feature"] if column == "feature" else file["jpeg/values"]
        size = values.dtype.itemsize * (3 if column == "feature" else 1)
        place = values.id.get_offset() + (size * 3 if column == "feature" else 6)  # row 3 of jpeg is values[6:10]
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert damaged_rows(path) == [3]


@pytest.mark.parametrize("offset", [-1, 16, 1 << 40])
def test_an_offset_that_leads_out_of_the_values_damages_the_rows_beside_it_and_no_other(tmp_path: Path, offset: int):
    path = tmp_path / "t.h5"
    write_table(path, columns(), {})
    with h5py.File(path, "r+") as file:
        file["jpeg/offsets"][2] = offset
    assert damaged_rows(path) == [1, 2]
    jpeg = read_table(path)[0]["jpeg"]
    with pytest.raises(ValueError, match=r"row 1 of a ragged column runs from 1 to .* of 15 values"):
        jpeg[1]
    with pytest.raises(ValueError, match="do not rise from 0 to 15, the number of its values"):
        assert len(jpeg.lengths)
    with pytest.raises(ValueError, match="do not rise from 0 to 15"):
        concatenate(tmp_path / "all.h5", [path], [np.arange(5)], {})


@pytest.mark.parametrize("offsets", [np.array([0, 2]), np.array([1, 3]), np.array([0, 2, 1, 3])])
def test_a_ragged_column_whose_offsets_do_not_fit_is_not_written(tmp_path: Path, offsets: np.ndarray):
    with pytest.raises(ValueError, match=r"do not rise from 0 to 3|row 1 of a ragged column"):
        write_table(tmp_path / "t.h5", {"jpeg": Ragged(np.zeros(3), offsets)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("offsets", [np.array([0.0, 3]), np.array([], int), np.array([[0, 3]])])
def test_offsets_are_integers_one_more_than_rows(offsets: np.ndarray):
    with pytest.raises(ValueError, match=r"offsets of a ragged column are .*, wanted integers \[rows \+ 1\]"):
        Ragged(np.zeros(3), offsets)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all" * 100])
def test_what_is_no_hdf5_file_is_refused_by_name(tmp_path: Path, content: bytes):
    (tmp_path / "t.h5").write_bytes(content)
    with pytest.raises(OSError, match=r"t\.h5: not a readable HDF5 file .*; delete it and make it again"):
        read_table(tmp_path / "t.h5")


def test_a_truncated_table_is_refused(tmp_path: Path):
    write_table(tmp_path / "t.h5", columns(), {})
    os.truncate(tmp_path / "t.h5", (tmp_path / "t.h5").stat().st_size // 2)
    with pytest.raises(OSError, match="truncated"):
        read_table(tmp_path / "t.h5")


# -- many tables to one


def test_concatenation_keeps_the_chosen_rows_in_order_and_their_checksums(tmp_path: Path):
    """Text may be wider in one part than in another."""
    parts = columns(5), columns(3, seed=1000)
    sources = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for source, part in zip(sources, parts, strict=True):
        write_table(source, part, {})
    concatenate(tmp_path / "all.h5", sources, [np.arange(5), np.array([0, 2])], {"key": "abc"})
    found, attributes = read_table(tmp_path / "all.h5")
    for name in parts[0]:
        assert_rows(found[name], [parts[0][name][row] for row in range(5)] + [parts[1][name][row] for row in (0, 2)])
    assert attributes == {"key": "abc"}
    assert damaged_rows(tmp_path / "all.h5") == []


@pytest.mark.parametrize("other", [np.ones((2, 4), np.float32), np.ones((2, 3)), Ragged.of([np.ones(3)] * 2)])
def test_tables_of_other_columns_are_not_joined(tmp_path: Path, other: Column):
    write_table(tmp_path / "a.h5", {"feature": np.ones((2, 3), np.float32)}, {})
    write_table(tmp_path / "b.h5", {"feature": other}, {})
    with pytest.raises(ValueError, match=r"b\.h5: its columns .* differ from .* in .*a\.h5"):
        concatenate(tmp_path / "all.h5", [tmp_path / "a.h5", tmp_path / "b.h5"], [np.arange(2)] * 2, {})
    assert not (tmp_path / "all.h5").exists()


# -- written whole or not at all


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise ValueError("no more")

    (tmp_path / "t.txt").write_text("old")
    with pytest.raises(ValueError, match="no more"):
        write_atomic(tmp_path / "t.txt", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]
    assert (tmp_path / "t.txt").read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_to_be_full(tmp_path: Path, number: int):
    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise OSError(number, "of the system")

    with pytest.raises(OSError, match=r"the disk is full; free some space and run the same command again: '.*t\.txt'"):
        write_atomic(tmp_path / "t.txt", fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("free", "message"), [(1000, "the disk is full"), (1 << 30, "enforce fail")])
def test_a_writer_that_does_not_say_why_is_believed_where_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, message: str
):
    """torch and safetensors raise errors without a number."""

    def fail(aside: Path) -> None:
        raise RuntimeError("enforce fail at inline_container.cc")

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, free))
    with pytest.raises((OSError, RuntimeError), match=message):
        write_atomic(tmp_path / "t.pt", fail)


def test_another_error_of_the_system_keeps_its_own_words(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory"):
        write_atomic(tmp_path / "nowhere" / "t.txt", lambda aside: aside.touch())


def written_under_limits(folder: Path, limits: list[int]) -> list[list[str]]:
    command = [sys.executable, "-c", WRITE_LARGE, str(folder), *map(str, limits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("|") for line in done.stdout.splitlines()]


def test_a_table_that_cannot_be_written_to_its_end_is_an_error_wherever_it_stops(tmp_path: Path):
    """HDF5 2.0, told that a write failed, ends the process by a segmentation fault in about every second case."""
    limits = [1, 100, 2_000, 20_000, 40_000, 60_000, 90_000, 110_000, 115_000]
    assert written_under_limits(tmp_path, limits) == [[str(errno.EFBIG), "File too large", "[]"]] * len(limits)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
@pytest.mark.parametrize("size", ["4k", "40k", "100k"])
def test_a_table_on_a_disk_that_really_fills_up(tmp_path: Path, size: str):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", tmp_path], check=False)
    if mounted.returncode:
        pytest.skip("no mounting here")
    try:
        message = "the disk is full; free some space and run the same command again"
        assert written_under_limits(tmp_path, [1 << 30]) == [[str(errno.ENOSPC), message, "[]"]]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# -- files from strangers


def virtual(file: h5py.File, folder: Path, maxshape: tuple[int | None]) -> None:
    layout = h5py.VirtualLayout((4,), "u1", maxshape=maxshape)
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "secret", (4,), "u1", maxshape)
    file.create_virtual_dataset("x", layout)


def mixed_group(file: h5py.File) -> None:
    file["x/values"], file["x/offsets"] = np.zeros(3), h5py.SoftLink("/y")


STRANGE = {
    "an external link": (
        lambda file, folder: file.__setitem__("x", h5py.ExternalLink(folder / "secret.h5", "secret")),
        "x is a link to elsewhere, which is not followed",
    ),
    "a soft link": (lambda file, _: file.__setitem__("x", h5py.SoftLink("/y")), "x is a link to elsewhere"),
    "a soft link in a group": (lambda file, _: mixed_group(file), "offsets is a link to elsewhere"),
    "external storage": (
        lambda file, folder: file.create_dataset("x", (4,), "u1", external=[(folder / "secret", 0, 4)]),
        "column /x lies in another file, which is not followed",
    ),
    "a virtual data set": (lambda file, folder: virtual(file, folder, (4,)), "column /x lies in another file"),
    "a growing virtual data set": (lambda file, folder: virtual(file, folder, (None,)), "column /x lies in another"),
    "text of variable length": (
        lambda file, _: file.create_dataset("x", data=["a"], dtype=h5py.string_dtype()),
        "column /x is of type object, not numbers or fixed text",
    ),
    "lists": (lambda file, _: file.create_dataset("x", (2,), h5py.vlen_dtype("i4")), "column /x is of type object"),
    "references": (lambda file, _: file.create_dataset("x", (2,), h5py.ref_dtype), "column /x is of type object"),
    "compound values": (lambda file, _: file.create_dataset("x", (2,), "i4,f4"), r"column /x is of type \["),
    "arrays of values": (lambda file, _: file.create_dataset("x", (2,), "(3,)f4"), "column /x is of type"),
    "opaque values": (lambda file, _: file.create_dataset("x", (2,), "V4"), "column /x is of type"),
    "a named type": (lambda file, _: file.__setitem__("x", np.dtype("f4")), "/x is a TypeFloatID, wanted a data set"),
    "compressed values": (
        lambda file, _: file.create_dataset("x", data=np.zeros(99), compression="gzip"),
        "column /x is not contiguous, or was never written",
    ),
    "values never written": (
        lambda file, _: file.create_dataset("x", (99,), "f4"),
        "column /x is not contiguous, or was",
    ),
    "a single value": (lambda file, _: file.create_dataset("x", data=1.0), r"column /x, float64 \[\], has no rows"),
    "a group of groups": (lambda file, _: file.create_group("x/values/y"), "group /x holds values, wanted values and"),
    "columns of two lengths": (
        lambda file, _: file.update(x=np.zeros(3), y=np.zeros(4)),
        r"columns have \[3, 4\] rows",
    ),
    "a text attribute of variable length": (
        lambda file, _: file.attrs.update(key="abc"),
        "attribute key is of type object, not a number or text of fixed length",
    ),
    "an attribute of many numbers": (
        lambda file, _: file.attrs.update(key=[1, 2]),
        "attribute key has more values than one",
    ),
    "a fraction as an attribute": (lambda file, _: file.attrs.update(key=0.5), "attribute key is of type float64"),
}


@pytest.mark.parametrize(("make", "message"), STRANGE.values(), ids=list(STRANGE))
def test_a_strangers_file_makes_no_pointers_and_leads_to_no_other_file(
    tmp_path: Path, make: Callable[[h5py.File, Path], object], message: str
):
    """Each of these is refused before a value is read, with the file's name."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.arange(4, dtype="u1")
    (tmp_path / "secret").write_bytes(b"word")
    with h5py.File(tmp_path / "strange.h5", "w") as file:
        make(file, tmp_path)
    with pytest.raises(OSError, match=rf"strange\.h5: not a readable HDF5 file \(.*{message}"):
        read_table(tmp_path / "strange.h5")


def test_a_file_that_cannot_be_opened_for_another_reason_is_not_to_be_deleted(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "nowhere.h5")
    with pytest.raises(IsADirectoryError):
        read_table(tmp_path)


def test_wherever_a_byte_is_damaged_the_table_is_refused_or_its_row_named(tmp_path: Path):
    """In a process of its own, which must not crash, hang, or take damaged bytes for good ones."""
    write_table(tmp_path / "good.h5", columns() | {"kept": np.ones(5, bool)}, {"key": "abc", "batch": 16})
    command = [sys.executable, "-c", DAMAGE, str(tmp_path / "good.h5"), str(tmp_path / "bad.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["taken for good"] == []
    assert found["refused"] > 300
    assert found["named"] > 30
