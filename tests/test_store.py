"""Feature caches: parts, merging, finding rows by name, and what is refused."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcl.cache import store
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import (
    cache_folders,
    create_cache,
    done_names,
    find_caches,
    is_merged,
    merge,
    open_cache,
    verify,
    write_part,
)
from mmcl.cache.table import Ragged

RECIPE = Recipe("rgb", "acted", {"model": "owner/net"})
NAMES = [f"clip{number}" for number in range(6)]


def value(name: str) -> float:
    return float(name.removeprefix("clip")) + 0.5


def put(folder: Path, unit: int, names: list[str], failed: str = "") -> None:
    columns = {
        "feature": np.array([[value(name)] * 2 for name in names], np.float32),
        "jpeg": Ragged.of([np.full(len(name) + row, row, np.uint8) for row, name in enumerate(names)]),
    }
    write_part(folder, unit, names, ["unreadable: not a video" * (name == failed) for name in names], columns)


def assert_whole(folder: Path, names: list[str]) -> None:
    rows = open_cache(folder)
    assert sorted(rows.names) == sorted(names)
    for name in names:
        assert (rows.array("feature")[rows.row_of[name]] == value(name)).all()
    assert verify(folder) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_cache(tmp_path, RECIPE)


@pytest.fixture
def merged(folder: Path) -> Path:
    put(folder, 0, NAMES[:3], failed="clip1")
    put(folder, 1, NAMES[3:])
    merge(folder)
    return folder


def test_a_cache_lies_in_a_folder_named_by_its_recipe_which_it_keeps(folder: Path, tmp_path: Path):
    assert folder == tmp_path / "rgb" / RECIPE.key
    assert json.loads((folder / "recipe.json").read_text()) == RECIPE.as_dict()
    assert create_cache(tmp_path, RECIPE) == folder


def test_parts_become_one_table_whose_rows_are_found_by_name(merged: Path):
    assert_whole(merged, NAMES)
    assert is_merged(merged)
    assert sorted(path.name for path in merged.rglob("*")) == ["cache.h5", "parts", "recipe.json"]


def test_a_failed_clip_has_a_row_and_its_reason(merged: Path):
    assert open_cache(merged).failures == {"clip1": "unreadable: not a video"}


def test_a_long_reason_in_any_language_is_cut_and_stays_readable(folder: Path):
    write_part(folder, 0, ["a"], ["\N{GRINNING FACE}" * 101 + "x"], {"feature": np.zeros((1, 1))})
    assert merge(folder).failures["a"].startswith("\N{GRINNING FACE}" * 99)


def test_names_of_any_language_are_kept(folder: Path):
    names = ["ходьба", "歩く_01", "a b/c"]
    write_part(folder, 0, names, [""] * 3, {"feature": np.zeros((3, 1))})
    assert merge(folder).names == names
    assert done_names(folder) == set(names)


def test_a_part_says_what_made_it(merged: Path):
    with h5py.File(merged / "cache.h5") as file:
        assert file.attrs["key"] == RECIPE.key
        assert set(json.loads(file.attrs["libraries"])) == set(store.LIBRARIES)


def test_a_table_that_grew_under_several_versions_names_each_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """However often it was merged: an HDF5 attribute holds 64 KB."""
    for number in range(20):
        monkeypatch.setattr(store, "library_versions", lambda number=number: {"torch": f"2.{number % 3}"})
        put(folder, number, [f"clip{number}"])
        merge(folder)
    with h5py.File(folder / "cache.h5") as file:
        versions = json.loads(file.attrs["libraries"])
    assert versions == {"mixed": ['{"torch": "2.0"}', '{"torch": "2.1"}', '{"torch": "2.2"}']}


def test_a_kill_between_parts_loses_none_that_was_written(folder: Path):
    put(folder, 0, NAMES[:3])
    (folder / "parts" / "00000001-abc.h5.host.1.tmp").write_bytes(b"half a part")
    assert done_names(folder) == set(NAMES[:3])
    assert not is_merged(folder)
    put(folder, 1, NAMES[3:])
    merge(folder)
    assert_whole(folder, NAMES)


def test_parts_that_come_after_a_merge_are_added(merged: Path):
    put(merged, 7, ["clip7", "clip8"])
    assert not is_merged(merged)
    assert done_names(merged) == {*NAMES, "clip7", "clip8"}
    merge(merged)
    assert_whole(merged, [*NAMES, "clip7", "clip8"])


@pytest.mark.parametrize("later", [[], ["clip9"]], ids=["nothing new", "a new clip"])
@pytest.mark.parametrize("unlinked", [0, 1])
def test_a_kill_after_merging_and_before_the_parts_are_gone_doubles_no_row(
    folder: Path, unlinked: int, later: list[str]
):
    """Parts whose rows are all in the table already are only removed."""
    put(folder, 0, NAMES[:3])
    put(folder, 1, NAMES[3:])
    aside = shutil.copytree(folder / "parts", folder.parent / "aside")
    merge(folder)
    for part in sorted(aside.iterdir())[unlinked:]:
        shutil.copy(part, folder / "parts")
    if later:
        put(folder, 2, later)
    merge(folder)
    assert is_merged(folder)
    assert_whole(folder, [*NAMES, *later])


def test_two_runs_that_did_the_same_unit_count_it_once(folder: Path):
    put(folder, 0, NAMES[:4])
    put(folder, 1, NAMES[2:])
    merge(folder)
    assert_whole(folder, NAMES)


def test_a_merge_is_not_redone_where_nothing_came(merged: Path):
    before = (merged / "cache.h5").stat()
    merge(merged)
    assert (merged / "cache.h5").stat() == before


def test_another_recipe_in_the_folder_is_refused_with_the_difference(folder: Path, tmp_path: Path):
    other = Recipe("rgb", "acted", {"model": "owner/other"})
    shutil.move(folder, folder.with_name(other.key))
    with pytest.raises(
        ValueError, match=r'made with another recipe.*\n  model: found "owner/net", wanted "owner/other"'
    ):
        create_cache(tmp_path, other)


def test_a_table_of_another_recipe_is_refused(merged: Path, tmp_path: Path):
    other = create_cache(tmp_path, Recipe("rgb", "acted", {"model": "owner/other"}))
    shutil.copy(merged / "cache.h5", other)
    with pytest.raises(ValueError, match=rf"cache\.h5: belongs to recipe {RECIPE.key}, recipe\.json beside it is"):
        open_cache(other)


def test_an_unfinished_cache_is_refused_with_the_next_step(folder: Path):
    put(folder, 0, NAMES[:3])
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again, it resumes"):
        open_cache(folder)


def test_an_unknown_column_is_refused_with_those_there_are(merged: Path):
    with pytest.raises(ValueError, match="no column 'logits'; it has failure, feature, jpeg, name"):
        open_cache(merged).array("logits")


@pytest.mark.parametrize(("column", "damaged"), [("feature", "clip4"), ("name", None)])
def test_verify_names_the_damaged_row(merged: Path, column: str, damaged: str | None):
    with h5py.File(merged / "cache.h5") as file:
        data = file[column]
        place = data.id.get_offset() + 4 * data.dtype.itemsize * (data.shape[1] if data.ndim > 1 else 1)
    content = bytearray((merged / "cache.h5").read_bytes())
    content[place] ^= 0x80
    (merged / "cache.h5").write_bytes(content)
    found = verify(merged)
    assert len(found) == 1
    assert damaged in (None, found[0])


def test_caches_of_a_data_set_are_listed(merged: Path, tmp_path: Path):
    other = create_cache(tmp_path, Recipe("text", "acted", {"model": "owner/llm"}))
    assert cache_folders(tmp_path) == [merged, other]
    assert find_caches(tmp_path, "person-images") == []
    with pytest.raises(FileNotFoundError, match="no such folder; make it with `mmcl prepare`"):
        cache_folders(tmp_path / "nowhere")
