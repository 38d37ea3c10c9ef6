"""Weights to start from: the whole network or what fits of its backbone, checked before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmcl.cache.skeletons import Layout
from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V1_UTD, KINECT_V2
from mmcl.trainer.backbones.originals.load import load_original
from mmcl.trainer.config import Config
from mmcl.trainer.loop.start import read_start, start_line
from mmcl.trainer.run import Run, write_run

NTU = tuple(f"A{number:03d}" for number in range(1, 13))
UTD = ("clap", "swipe", "wave")
JOINTS = "joints 25 there (kinect-v2), 20 here (kinect-v1-utd)"


def run_of(layout: Layout = KINECT_V2, slots: int = 2, classes: tuple[str, ...] = NTU, width: int = 8) -> Run:
    return Run(
        Config(width=width), "acted", "data", "digest", classes, layout, slots, "zero", 8, 0, None, (), {},
        {"mmcl": "0"},
    )  # fmt: skip


def trained(folder: Path, run: Run) -> Path:
    """A finished run's folder, with the weights that a network starts with."""
    folder.mkdir()
    write_run(folder, run)
    torch.manual_seed(0)
    save_file(run.build().state_dict(), folder / "model.safetensors")
    return folder


def refused(path: Path, run: Run, *, backbone_only: bool = False) -> str:
    with pytest.raises(ValueError) as error:
        read_start(path, run, backbone_only)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def ntu(tmp_path: Path) -> Path:
    return trained(tmp_path / "ntu", run_of())


@pytest.mark.parametrize("file", ["", "model.safetensors"])
def test_the_whole_network_starts_from_a_run_of_the_same_classes_and_joints(ntu: Path, file: str):
    start, entries = read_start(ntu / file, run_of(), False)
    model = run_of().build()
    model.load_state_dict(entries)
    assert all(torch.equal(value, entries[name]) for name, value in load_file(ntu / "model.safetensors").items())
    assert start_line(start) == f"starts from {ntu / file}: all {len(entries)} entries".replace("/:", ":")


def test_another_network_is_refused_with_what_is_other_and_what_loads_the_rest(ntu: Path):
    said = refused(ntu, run_of(KINECT_V1_UTD, 1, UTD))
    assert said == (
        f"--init {ntu}: another network ({JOINTS}; bodies 2 there, 1 here; classes 12 there, 3 here); "
        f"--init-backbone {ntu} loads what fits"
    )
    assert refused(ntu, run_of(width=16)).endswith("(width 8 there, 16 here); start from another")
    assert "(class 'A001' there, 'drink' here)" in refused(ntu, run_of(classes=("drink", *NTU[1:])))


def test_weights_that_hold_more_than_the_network_are_another_one(ntu: Path):
    weights = load_file(ntu / "model.safetensors")
    save_file({**weights, "backbone.more": torch.zeros(2)}, ntu / "model.safetensors")
    assert "(backbone.more: [2] there, none here)" in refused(ntu, run_of())


def test_without_a_run_beside_them_the_weights_say_what_they_are(ntu: Path, tmp_path: Path):
    alone = (ntu / "model.safetensors").rename(tmp_path / "weights.safetensors")
    said = refused(alone, run_of(KINECT_V1, 1, UTD, 16))
    assert "(features 32 there, 64 here; joints 25 there, 20 here (kinect-v1); bodies 2 there, 1 here; classes" in said
    assert "(classes 12 there, 3 here)" in refused(alone, run_of(classes=UTD))


def test_the_backbone_starts_from_what_fits_and_the_line_says_what_does_not(ntu: Path):
    run = run_of(KINECT_V1_UTD, 1, UTD)
    start, entries = read_start(ntu, run, True)
    model, before, there = run.build(), run.build().state_dict(), load_file(ntu / "model.safetensors")
    model.load_state_dict(entries, strict=False)
    after = model.state_dict()
    own = {name for name in after if name.startswith(("classifier", "backbone.data_bn")) or "topology" in name}
    assert set(entries) == set(after) - own
    assert all(torch.equal(after[name], there[name]) for name in entries)
    assert all(after[name].shape == before[name].shape for name in own)
    assert start.left_out == ("classifier", "data_bn", f"topology of 10 blocks ({JOINTS})")
    count = sum(name.startswith("backbone.") for name in after)
    assert start_line(start) == (
        f"starts from {ntu}: {count - 15} of {count} backbone entries; left out: {', '.join(start.left_out)}"
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the original release's entries, 120 classes and 25 joints, of numbers drawn by chance."""
    golden = np.load(Path(__file__).parent / "data" / "ctrgcn_ntu120.npz", allow_pickle=False)
    shapes = [json.loads(str(shape)) for shape in golden["state_dict_shapes"]]
    generator = torch.Generator().manual_seed(0)
    entries = {
        str(name): torch.rand(shape, generator=generator) if shape else torch.tensor(1)
        for name, shape in zip(golden["state_dict_names"], shapes, strict=True)
    }
    path = tmp_path_factory.mktemp("original") / "ntu120.pt"
    torch.save(entries, path)
    return path


def test_an_original_checkpoint_is_a_start(original: Path):
    run = run_of(width=64, classes=tuple(map(str, range(120))))
    start, entries = read_start(original, run, False)
    assert start.loaded == len(run.build().state_dict())
    assert all(torch.equal(value, entries[name]) for name, value in load_original(original).state.items())


def test_an_original_checkpoint_lends_its_backbone_to_other_joints_and_classes(original: Path):
    run = run_of(KINECT_V1, 1, UTD, 64)
    said = refused(original, run)
    assert "(joints 25 there, 20 here (kinect-v1); bodies 2 there, 1 here; classes 120 there, 3 here)" in said
    start, entries = read_start(original, run, True)
    note = "joints 25 there, 20 here (kinect-v1)"
    assert start.left_out == ("classifier", "data_bn", f"topology of 10 blocks ({note})")
    assert start.loaded == start.entries - 15 == len(entries)
    other = replace(run, config=replace(run.config, backbone="ctrsgcn"))
    assert "(backbone ctrgcn there, ctrsgcn here" in refused(original, other, backbone_only=True)


def test_the_classifier_is_never_part_of_the_backbone(ntu: Path):
    start, entries = read_start(ntu, run_of(), True)
    assert start.left_out == ("classifier",)
    assert start.loaded == start.entries == len(entries)
    assert not [name for name in entries if name.startswith("classifier")]


def test_joints_in_another_order_are_not_mixed_up(tmp_path: Path):
    """Both layouts have 20 joints, so every shape fits; a topology learned for one would be wrong for the other."""
    there, here = trained(tmp_path / "ucla", run_of(KINECT_V1, 1)), run_of(KINECT_V1_UTD, 1)
    note = "joints in the order of kinect-v1 there, of kinect-v1-utd here"
    assert note in refused(there, here)
    start, entries = read_start(there, here, True)
    assert start.left_out == ("classifier", "data_bn", f"topology of 10 blocks ({note})")
    assert not [name for name in entries if "topology" in name or "data_bn" in name]


def test_a_backbone_of_another_width_is_refused(ntu: Path):
    said = refused(ntu, run_of(width=16), backbone_only=True)
    assert said.startswith(f"--init-backbone {ntu}: another network, ")
    assert said.endswith("backbone entries fit (width 8 there, 16 here)")


def test_another_backbone_is_refused_whatever_of_it_would_fit(tmp_path: Path):
    other = replace(run_of(), config=Config(width=8, backbone="ctrsgcn"))
    folder = tmp_path / "other"
    folder.mkdir()
    write_run(folder, other)
    save_file(run_of().build().state_dict(), folder / "model.safetensors")
    assert "(backbone ctrsgcn there, ctrgcn here)" in refused(folder, run_of(), backbone_only=True)


def test_weights_that_are_not_finite_are_refused(ntu: Path):
    weights = load_file(ntu / "model.safetensors")
    weights["backbone.blocks.3.spatial.bn.running_var"][1] = float("nan")
    save_file(weights, ntu / "model.safetensors")
    for backbone_only in (False, True):
        said = refused(ntu, run_of(), backbone_only=backbone_only)
        assert said.startswith(f"{ntu}: holds numbers that are not finite (backbone.blocks.3.spatial.bn.running_var)")


@pytest.mark.parametrize("name", ["model.safetensors", "old.pt", "empty.safetensors", "empty.pt"])
def test_damaged_files_are_one_line(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"" if "empty" in name else b"half of a file, or less" * 9)
    said = refused(tmp_path / name, run_of())
    assert said.startswith(f"{tmp_path / name}: no weights to start from (")
    assert said.endswith(
        "wanted a run's folder, its model.safetensors, or an original .pt of CTR-GCN, CTRS-GCN or HD-GCN"
    )


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": torch.zeros(1)}}, torch.zeros(3), {"data_bn.weight": "x"}])
def test_a_pt_file_of_something_else_is_one_line(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "other.pt")
    assert refused(tmp_path / "other.pt", run_of()).startswith(f"{tmp_path / 'other.pt'}: no weights to start from (")


def test_what_is_not_there_is_said(ntu: Path, tmp_path: Path):
    (ntu / "model.safetensors").unlink()
    assert refused(ntu, run_of()).startswith(f"{ntu}: its training has not finished")
    for path, said in ((tmp_path / "no.pt", "no such file"), (tmp_path, "no run here")):
        with pytest.raises(FileNotFoundError, match=said):
            read_start(path, run_of(), False)


def test_the_record_is_the_same_after_a_run_json_and_knows_its_weights(ntu: Path):
    start, entries = read_start(ntu, run_of(), True)
    assert json.loads(json.dumps(start.as_dict())) == start.as_dict()
    assert read_start(ntu / "model.safetensors", run_of(), True)[0].digest == start.digest
    entries["backbone.data_bn.bias"] += 1
    save_file({**load_file(ntu / "model.safetensors"), **entries}, ntu / "model.safetensors")
    assert read_start(ntu, run_of(), True)[0].digest != start.digest


def test_half_precision_weights_become_the_networks(ntu: Path):
    weights = load_file(ntu / "model.safetensors")
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halves, ntu / "model.safetensors")
    _, entries = read_start(ntu, run_of(), False)
    assert {name: value.dtype for name, value in entries.items()} == {name: v.dtype for name, v in weights.items()}
