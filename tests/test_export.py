"""A cache as .npz: everything is in it, numpy alone reads it, and memory stays small."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache import export as export_module
from mmcl.cache.export import export
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged

RECIPE = Recipe("text", "acted", {"model": "owner/ллм", "prompt": "holding-object"})
NAMES = ["clip-1", "ходьба", "clip-3"]
ANSWERS = ["yes", "да, держит", ""]

LARGE = """
import resource, sys
from pathlib import Path
from mmcl.cache import export
export.BYTES = 1 << 20
limit = int(Path("/proc/self/statm").read_text().split()[5]) * 4096 + (24 << 20)  # the heap; a mapped file is not in it
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
export.export(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def make(folder: Path, unit: int = 0, names: list[str] = NAMES, answers: list[str] = ANSWERS) -> None:
    rng = np.random.default_rng(unit)
    columns = {
        "prompt_feature": rng.normal(size=(len(names), 4)).astype(np.float16),
        "answer_ids": rng.integers(0, 9, (len(names), 2)).astype(np.int32),
        "answer_text": np.array([answer.encode() for answer in answers], "S64"),
        "person_found": rng.random((len(names), 2)) > 0.5,
        "jpeg": Ragged.of([rng.integers(0, 255, row + 1).astype(np.uint8) for row in range(len(names))]),
    }
    write_part(folder, unit, names, ["unreadable: Ölspur" * (name == "clip-3") for name in names], columns)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = create_cache(tmp_path, RECIPE)
    make(made)
    return made


def test_numpy_reads_every_column_without_pickle(folder: Path, tmp_path: Path):
    columns = merge(folder).columns
    out = export(folder, tmp_path / "new" / "cache.npz")
    assert out == tmp_path / "new" / "cache.npz"
    with np.load(out, allow_pickle=False) as found:
        assert found["name"].tolist() == NAMES
        assert found["answer_text"].tolist() == ANSWERS
        assert found["failure"].tolist() == ["", "", "unreadable: Ölspur"]
        assert json.loads(found["recipe"].item()) == RECIPE.as_dict()
        for name in ("prompt_feature", "answer_ids", "person_found"):
            np.testing.assert_array_equal(found[name], columns[name], strict=True)
        values, offsets = found["jpeg/values"], found["jpeg/offsets"]
        for row in range(3):
            np.testing.assert_array_equal(values[offsets[row] : offsets[row + 1]], columns["jpeg"][row])
        assert len(found.files) == len(columns) + 2  # the recipe, and two for the ragged column


def test_blocks_make_no_difference(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nor does the hour: two exports of one cache are equal byte by byte."""
    make(folder, 1, [f"more-{row}" for row in range(70)], ["yes" + "!" * (row == 69) for row in range(70)])
    merge(folder)
    whole = export(folder, tmp_path / "whole.npz").read_bytes()
    monkeypatch.setattr(export_module, "BYTES", 100)
    assert export(folder, tmp_path / "blocks.npz").read_bytes() == whole


def test_an_export_again_takes_the_place_of_the_first(folder: Path, tmp_path: Path):
    merge(folder)
    out = tmp_path / "cache.npz"
    out.write_text("old")
    export(folder, out)
    assert zipfile.is_zipfile(out)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again"):
        export(folder, tmp_path / "cache.npz")
    merge(folder)
    with pytest.raises(ValueError, match=r"skeletons\.h5: an export is an \.npz file; call it skeletons\.npz"):
        export(folder, tmp_path / "skeletons.h5")
    other = create_cache(tmp_path, Recipe("rgb", "acted", {"model": "odd"}))
    write_part(other, 0, ["a"], [""], {"recipe": np.zeros((1, 2))})
    merge(other)
    with pytest.raises(ValueError, match="has a column 'recipe', which an export keeps for itself"):
        export(other, tmp_path / "cache.npz")
    assert not list(tmp_path.glob("*.npz*"))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_memory_does_not_grow_with_the_cache(tmp_path: Path):
    """67 MB go through a process that may use 24 MB more than it has after importing."""
    folder = create_cache(tmp_path, Recipe("rgb", "acted", {"model": "large"}))
    names = [f"clip{row}" for row in range(4096)]
    write_part(folder, 0, names, [""] * len(names), {"feature": np.ones((4096, 4096), np.float32)})
    merge(folder)
    command = [sys.executable, "-c", LARGE, str(folder), str(tmp_path / "large.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(tmp_path / "large.npz") as found:
        assert found["feature"].shape == (4096, 4096)
