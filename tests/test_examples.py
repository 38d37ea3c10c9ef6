"""The worked examples of the manual, registered as their pages say and used the product's own way."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mmcl.cache.merge import merge
from mmcl.cache.named import cache_named
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, read_skeletons
from mmcl.cache.store import create_cache, open_cache, write_part
from mmcl.cache.table import Ragged, write_table
from mmcl.docs.examples.backbone import Neighbours
from mmcl.docs.examples.dataset import Greetings
from mmcl.docs.examples.loss import focal
from mmcl.docs.examples.read_cache import key_of, read_rows
from mmcl.pipeline.datasets import DATASETS
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests import test_backbones as of_backbones
from mmcl.tests import test_classify as of_losses
from mmcl.tests.training import TINY, people, same, trained, weights
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.colearning.classify import CLASSIFY

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def command(*words: str | Path, code: int = 0) -> None:
    """The command line, in this process, which ends with that code."""
    from mmcl.cli import main

    before, sys.argv = sys.argv, ["mmcl", *map(str, words)]
    try:
        main()
    except SystemExit as ended:
        assert (ended.code or 0) == code
    finally:
        sys.argv = before


# -- a data set


@pytest.fixture
def greetings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight clips of four performers as their text files; the data set is registered."""
    monkeypatch.setitem(DATASETS, "greetings", Greetings)
    rng, folder = np.random.default_rng(0), tmp_path / "raw" / "day 1"
    folder.mkdir(parents=True)
    for performer in range(1, 5):
        for label in ("bow", "wave"):
            np.savetxt(folder / f"P{performer:02d}_{label}_1.txt", rng.normal(size=(12, 75)), fmt="%.4f")
    return tmp_path / "raw"


def test_the_example_data_set_is_prepared_and_its_odd_files_are_findings(
    greetings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = greetings / "day 1" / "P01_bow_1.txt"
    wanted = np.loadtxt(first).astype(np.float32).reshape(12, 25, 3)
    (greetings / "P09_nod_1.txt").write_text("0 0 0\n")
    (greetings / "P09_bow_1.txt").write_text("0 0 0\n")
    command("prepare", "greetings", greetings, "--out", tmp_path / "data", "--jobs", "2")
    said = capsys.readouterr().out
    assert "name is not of the form" in said and "lines of 3 numbers, wanted 75" in said
    found = read_skeletons(tmp_path / "data" / "skeletons.h5")
    assert found.classes == ("bow", "wave") and len(found.names) == 8
    row = found.names.index("P01_bow_1")
    np.testing.assert_allclose(found.joints[row], wanted, atol=1e-6)
    assert {found.names[row][:3] for row in found.rows("xsub", TRAIN)} == {"P01", "P03"}
    assert {found.names[row][:3] for row in found.rows("xsub", TEST)} == {"P02", "P04"}
    assert found.columns["subject"][row] == 1


def test_the_example_data_set_is_trained_on(greetings: Path, tmp_path: Path):
    command("prepare", "greetings", greetings, "--out", tmp_path / "data", "--jobs", "1")
    tiny = [f"{key}={value}" for key, value in (("width", 8), ("window", 8), ("batch", 2), ("epochs", 1))]
    chosen = [word for setting in tiny for word in ("--set", setting)]
    command("train", tmp_path / "data", "--rgb", "none", "--text", "none", *chosen, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").exists()


# -- an encoder


def test_the_example_encoder_fills_a_cache_by_the_command_and_trains(raw: Path, data: Path, tmp_path: Path):
    name = "mmcl.docs.examples.encoder:Colours"
    command("extract-features", data, "--videos", raw / "videos", "--person", "frame", "--rgb", name)
    rows = open_cache(cache_named(data, name, ("rgb",)))
    assert not rows.failures and rows.array("feature").shape == (24, 64)
    np.testing.assert_allclose(rows.array("feature").sum(1), 1, rtol=1e-5)
    trained(data, tmp_path / "run", replace(TINY, epochs=1, milestones=()), rgb=name)
    assert (tmp_path / "run" / "heads.safetensors").exists()


# -- a backbone


@pytest.fixture
def neighbours(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BACKBONES, "neighbours", Neighbours)
    torch.manual_seed(0)
    return "neighbours"


HELD = [
    check
    for name, check in vars(of_backbones).items()
    if name.startswith("test_") and name not in ("test_a_model_is_made_of_each_name_and_of_no_other",)
]


@pytest.mark.parametrize("check", HELD, ids=lambda check: check.__name__.removeprefix("test_"))
def test_the_example_backbone_is_what_every_backbone_is(neighbours: str, check: Callable[..., None]):
    """What tests/test_backbones.py holds of a name once it is registered."""
    more = {"layout": KINECT_V2, "width": 12}
    check(neighbours, **{name: value for name, value in more.items() if name in check.__code__.co_varnames[:2]})


def test_the_example_backbone_is_trained_to_the_same_weights_twice_and_tested(neighbours: str, tmp_path: Path):
    data, config = people(tmp_path / "pairs", "zero"), replace(TINY, backbone=neighbours)
    trained(data, tmp_path / "run", config)
    trained(data, tmp_path / "again", config)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "again"))
    command("evaluate", tmp_path / "run", "--data", data)
    assert json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())["clips"] == 3


# -- a loss


@pytest.fixture
def registered_focal(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(CLASSIFY, "focal", focal)
    return "focal"


def test_the_example_loss_is_a_clips_own_and_its_shares_sum_up(registered_focal: str):
    """What tests/test_classify.py holds of a name once it is registered."""
    scores, labels = torch.randn(of_losses.N, of_losses.K), torch.arange(of_losses.N) % of_losses.K
    of_losses.test_every_loss_is_a_clips_own(registered_focal, scores, labels)
    of_losses.test_the_shares_of_two_processes_sum_to_the_mean_over_the_batch(registered_focal, scores, labels)
    sure = torch.tensor([[8.0, 0.0, 0.0, 0.0, 0.0]])
    assert focal(sure, torch.tensor([0])) < 1e-6 < focal(sure, torch.tensor([1]))


def test_the_example_loss_trains(registered_focal: str, tmp_path: Path):
    data, config = people(tmp_path / "pairs"), replace(TINY, epochs=1, milestones=())
    trained(data, tmp_path / "focal", replace(config, loss=registered_focal))
    trained(data, tmp_path / "usual", config)
    assert not same(weights(tmp_path / "focal"), weights(tmp_path / "usual"))


# -- the reader of the cache format


def test_the_reader_knows_nothing_of_mmcl_and_is_about_thirty_lines():
    text = (EXAMPLES / "read_cache.py").read_text()
    assert "from mmcl" not in text and "import mmcl" not in text
    assert len([line for line in text.splitlines() if line.strip()]) < 45


def cache_with_everything(root: Path) -> Path:
    """Rows of numbers, truths, text and ragged bytes; failed ones; names of several widths, not of ASCII alone."""
    folder = create_cache(
        root,
        Recipe(
            "text",
            "acted",
            {
                "model": "größer",
                "side": 3,
                "share": 0.1,
            },
        ),
    )
    rng = np.random.default_rng(0)
    for unit, names in enumerate((["a", "clip with a long name"], ["é", "d", "e"])):
        count = len(names)
        columns = {
            "prompt_feature": rng.normal(size=(count, 4)).astype(np.float32),
            "answer_text": np.array([b"yes, a cup"[: 3 + row] for row in range(count)]),
            "found": rng.normal(size=(count, 2)) > 0,
            "answer": Ragged.of([np.arange(row * 2, dtype=np.uint8) for row in range(count)]),
        }
        reasons = ["missing: no video" if name == "d" else "" for name in names]
        write_part(folder, unit, names, reasons, columns)
    merge(folder)
    return folder


def test_the_reader_reads_what_mmcl_reads_of_a_feature_cache(tmp_path: Path):
    folder = cache_with_everything(tmp_path)
    ours = open_cache(folder)
    rows, said = read_rows(folder / "cache.h5")
    recipe = json.loads((folder / "recipe.json").read_text())
    backwards = {name: recipe[name] for name in sorted(recipe, reverse=True)}
    assert said["key"] == folder.name == key_of(recipe) == key_of(backwards)
    assert [row["name"].decode() for row in rows] == ours.names
    assert {row["name"].decode(): row["failure"].decode() for row in rows if row["failure"]} == ours.failures
    assert len(ours.failures) == 1
    for number, row in enumerate(rows):
        assert set(row) == set(ours.columns)
        for name, column in ours.columns.items():
            np.testing.assert_array_equal(row[name], column[number])
    assert [len(row["answer"]) for row in rows] == [0, 2, 0, 2, 4]


def test_the_reader_reads_a_part_and_a_skeleton_cache(tmp_path: Path, skeletons: Skeletons, data: Path):
    folder = create_cache(tmp_path, Recipe("rgb", "acted", {"model": "net"}))
    part = write_part(folder, 3, ["a"], [""], {"feature": np.ones((1, 4), np.float32)})
    rows, said = read_rows(part)
    assert (said["key"], rows[0]["feature"].tolist()) == (folder.name, [1, 1, 1, 1])
    clips, about = read_rows(data / "skeletons.h5")
    assert [clip["name"].decode() for clip in clips] == list(skeletons.names)
    for row, clip in enumerate(clips):
        np.testing.assert_array_equal(clip["joints"], skeletons.joints[row])
    assert '"classes"' in about["meta"]


def test_the_digest_that_a_run_names_its_data_by_is_what_the_specification_says(skeletons: Skeletons, data: Path):
    rows, about = read_rows(data / "skeletons.h5")
    meta = {name: value for name, value in json.loads(about["meta"]).items() if name != "transfers"}
    with h5py.File(data / "skeletons.h5") as file:
        crc = file["crc"][:].astype("<u4").tobytes()
    assert hashlib.sha256(json.dumps(meta).encode() + crc).hexdigest()[:12] == skeletons.digest
    assert len(rows) == len(skeletons.names)


def test_the_reader_finds_a_damaged_row(tmp_path: Path):
    path = tmp_path / "table.h5"
    write_table(path, {"feature": np.arange(12, dtype=np.float32).reshape(3, 4)}, {"key": "0" * 12})
    with h5py.File(path, "r+") as file:
        file["feature"][1, 2] = 7  # type: ignore[index]
    with pytest.raises(ValueError, match="row 1 is damaged"):
        read_rows(path)


def test_the_reader_prints_a_line_a_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):

    folder = cache_with_everything(tmp_path)
    monkeypatch.setattr(sys, "argv", ["read_cache.py", str(folder / "cache.h5")])
    runpy.run_path(str(EXAMPLES / "read_cache.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "d missing: no video" and len(lines) == 5
