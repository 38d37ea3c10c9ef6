"""Feature caches: parts, rows by name, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from mmcl.cache import store
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import (
    Made,
    cache_folders,
    create_cache,
    find_caches,
    is_merged,
    move_caches,
    open_cache,
    sweep,
    verify,
    write_part,
)
from mmcl.cache.table import Ragged, read_table

RECIPE = Recipe("rgb", "acted", {"model": "owner/net"})
NAMES = [f"clip{number}" for number in range(6)]


def value(name: str) -> float:
    return float(name.removeprefix("clip")) + 0.5


def put(folder: Path, unit: int, names: list[str], failed: str = "") -> Path:
    columns = {
        "feature": np.array([[value(name)] * 2 for name in names], np.float32),
        "jpeg": Ragged.of([np.full(len(name) + row, row, np.uint8) for row, name in enumerate(names)]),
    }
    return write_part(folder, unit, names, ["unreadable: not a video" * (name == failed) for name in names], columns)


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
    rows = open_cache(merged)
    assert rows.names == NAMES
    for name in NAMES:
        assert (rows.array("feature")[rows.row_of[name]] == value(name)).all()
    assert verify(merged) == []
    assert is_merged(merged)
    left = {path.name for path in merged.rglob("*")}
    assert left == {"cache.h5", "parts", "recipe.json", "merge.lock"}


def test_a_failed_clip_has_a_row_and_its_reason(merged: Path):
    assert open_cache(merged).failures == {"clip1": "unreadable: not a video"}


def test_a_long_reason_in_any_language_is_cut_and_stays_readable(folder: Path):
    write_part(folder, 0, ["a"], ["\N{GRINNING FACE}" * 101 + "x"], {"feature": np.zeros((1, 1))})
    assert merge(folder).failures["a"].startswith("\N{GRINNING FACE}" * 99)


def test_names_of_any_language_are_kept(folder: Path):
    names = ["ходьба", "歩く_01", "a b/c"]
    write_part(folder, 0, names, [""] * 3, {"feature": np.zeros((3, 1))})
    assert merge(folder).names == names


def test_a_part_says_what_made_it(merged: Path):
    _, said = read_table(merged / "cache.h5")
    assert said["key"] == RECIPE.key
    libraries = json.loads(str(said["libraries"]))
    assert {"numpy", "opencv-python", "torch", "transformers"} <= set(libraries) <= set(store.LIBRARIES)


def test_a_library_that_is_not_installed_is_not_noted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "LIBRARIES", ("numpy", "no-such-library"))
    assert store.library_versions() == {"numpy": np.__version__}


def test_rows_that_are_made_anew_take_no_other_parts_file(folder: Path):
    """Another process may be merging that one, and will remove it."""
    columns = {"feature": np.zeros((1, 1))}
    first, again, newer = (
        write_part(folder, 0, ["a"], [""], columns, Made(generation=generation)) for generation in (1, 1, 2)
    )
    assert first == again != newer


def test_a_half_written_part_is_no_part(folder: Path):
    put(folder, 0, NAMES[:3])
    (folder / "parts" / "00000001-abc.h5.host.1.tmp").write_bytes(b"half a part")
    assert not is_merged(folder)
    assert merge(folder).names == NAMES[:3]


def test_half_written_parts_go_with_the_next_run_of_their_share(folder: Path):
    """Only with that: another process may be writing its own."""
    for unit in range(4):
        (folder / "parts" / f"{unit:08d}-abc.h5.host.1.tmp").touch()
    sweep(folder, 1, 2)
    assert sorted(path.name[:8] for path in (folder / "parts").iterdir()) == ["00000000", "00000002"]


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


def test_caches_move_to_another_folder_and_back(merged: Path, tmp_path: Path):
    aside = tmp_path / "aside"
    move_caches(tmp_path, aside)
    assert [path.name for path in cache_folders(aside)] == [merged.name]
    assert find_caches(tmp_path, "rgb") == []
    move_caches(aside, tmp_path)
    move_caches(aside, tmp_path)  # again, with nothing there
    assert open_cache(merged).names == NAMES
