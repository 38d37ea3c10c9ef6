"""A run as an ONNX file: raw joints in, the numbers of `mmcl evaluate` out, in ONNX Runtime alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmcl.cache.skeletons import Skeletons, read_skeletons
from mmcl.tests.exported import LIVELY, crowd, lively_run
from mmcl.trainer.config import Config
from mmcl.trainer.data.skeleton import body_of, pack
from mmcl.trainer.inference.onnx import Exported, export_onnx
from mmcl.trainer.loop.checkpoint import load_model
from mmcl.trainer.testing.scoring import score

onnx = pytest.importorskip("onnx", reason="onnx writes the file")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs it")

ROOT = Path(__file__).resolve().parent.parent
Feed = dict[str, np.ndarray]


def quiet(done: int, total: int) -> None:
    """Nobody looks on."""


def made(folder: Path, config: Config, rule: str = "zero", slots: int = 2) -> Exported:
    run = lively_run(folder / "run", crowd(folder / "crowd", rule, slots), config)
    return export_onnx(run, run / "model.onnx", None, quiet)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """CTR-GCN on joints, absent bodies zero."""
    return made(tmp_path_factory.mktemp("ctrgcn"), LIVELY)


@pytest.fixture(scope="module")
def skeletons(exported: Exported) -> Skeletons:
    return read_skeletons(Path(exported.run.data) / "skeletons.h5")


@pytest.fixture(scope="module")
def ask(exported: Exported) -> Callable[[Feed], list[np.ndarray]]:
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    return lambda feed: session.run(["scores", "probabilities"], feed)


def fed(skeletons: Skeletons, rows: list[int], *, behind: float = 0.0, spare: int = 0) -> Feed:
    """Clips as the graph takes them; `behind` lies behind their ends, `spare` frames more than the longest."""
    lengths = skeletons.frames[rows]
    joints = np.zeros((len(rows), 2, lengths.max() + spare, 25, 3), np.float32)
    for into, row, frames in zip(joints, rows, lengths, strict=True):
        into[:, frames:] = behind
        into[: skeletons.bodies[row], :frames] = skeletons.joints[row].reshape(-1, frames, 25, 3)
    return {"joints": joints, "lengths": lengths}


def evaluated(found: Exported, skeletons: Skeletons, rows: list[int]) -> np.ndarray:
    """The scores of `mmcl evaluate`."""
    run = found.run
    model = load_model(found.path.parent, run)
    body = body_of(run.layout, run.slots, run.body_rule)
    return score(model, pack(skeletons), np.array(rows), body=body, config=run.config).numpy()


def assert_agrees(found: Exported, flips: int = 0) -> None:
    """To float rounding; but for some clips in which two joints are equally near (HD-GCN)."""
    agreement = found.agreement
    assert (agreement.clips, agreement.left_out, agreement.same_top1) == (7, 0, 1)
    assert agreement.far <= flips
    assert agreement.scores < (1e-2 if flips else 2e-5) * agreement.scale


def test_scores_are_those_of_evaluate(exported: Exported, skeletons: Skeletons, ask: Callable) -> None:
    """Raw joints of clips of 1 to 90 frames, with one body and two, give PyTorch's scores; probabilities sum to one."""
    assert_agrees(exported)
    rows = list(range(10))
    scores, probabilities = ask(fed(skeletons, rows))
    wanted = evaluated(exported, skeletons, rows)
    assert wanted.std(axis=0).min() > 0.01  # a network that hears its input
    np.testing.assert_allclose(scores, wanted, atol=2e-5 * np.abs(wanted).max())
    np.testing.assert_allclose(probabilities, torch.tensor(wanted).softmax(1).numpy(), atol=1e-5)


def test_any_number_of_clips_and_frames(skeletons: Skeletons, ask: Callable) -> None:
    """A clip's numbers do not hang on the batch it is in, nor on how far it is filled up; a single frame is a clip."""
    together = ask(fed(skeletons, list(range(10)), spare=211))[0]
    alone = [ask(fed(skeletons, [row]))[0][0] for row in range(10)]
    assert skeletons.frames.min() == 1
    np.testing.assert_allclose(np.stack(alone), together, atol=2e-5 * np.abs(together).max())


@pytest.mark.parametrize("behind", [np.nan, np.inf, 7.0])
def test_what_lies_behind_a_clip_is_ignored(skeletons: Skeletons, ask: Callable, behind: float) -> None:
    """Frames at and behind a clip's length, in all body slots, change no bit of its scores."""
    rows = list(range(10))
    clean, dirty = (ask(fed(skeletons, rows, behind=value, spare=3))[0] for value in (0.0, behind))
    assert np.array_equal(clean, dirty)


def test_lengths_out_of_range_stay_in_their_clip(skeletons: Skeletons, ask: Callable) -> None:
    """A length beyond the array is the array's, one below 1 is 1: never another clip's frames."""
    feed = fed(skeletons, [6, 5])
    feed["lengths"] = np.array([500, -3])
    wanted = feed | {"lengths": np.array([90, 1])}
    assert np.array_equal(ask(feed)[0], ask(wanted)[0])


def test_the_file_says_what_it_is(exported: Exported) -> None:
    """One file whose metadata is all that a user needs, free N and T, and nothing of the machine it was made on."""
    proto = onnx.load(exported.path)
    found = {entry.key: entry.value for entry in proto.metadata_props}
    run = exported.run
    assert json.loads(found["classes"]) == ["hug", "push", "wave"]
    assert json.loads(found["layout"])["joints"] == list(run.layout.joints)
    kept = {key: found[key] for key in ("mmcl_format", "slots", "body_rule", "stream", "dataset", "split", "backbone")}
    assert list(kept.values()) == ["1", "2", "zero", "joint", "crowd", "xsub", "ctrgcn"]
    assert (found["coordinates"], found["selection"]) == ("metres", "last epoch")
    assert len(found["run"]) == 12 and proto.ir_version <= 9  # which onnxruntime 1.17 reads
    shapes = {value.name: shape_of(value) for value in (*proto.graph.input, *proto.graph.output)}
    assert shapes == {
        "joints": ["N", 2, "T", 25, 3],
        "lengths": ["N"],
        "scores": ["N", 3],
        "probabilities": ["N", 3],
    }
    assert str(ROOT).encode() not in exported.path.read_bytes()
    assert {path.name for path in exported.path.parent.iterdir()} == {"model.onnx", "model.safetensors", "run.json"}


def shape_of(value: Any) -> list[str | int]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


AS_NW_UCLA = replace(LIVELY, backbone="ctrsgcn", stream="bone", sampling="random", window=20, minmax=True)
CASES = {
    "CTRS-GCN, bone-motion": (replace(LIVELY, backbone="ctrsgcn", stream="bone-motion"), "repeat", 2),
    "CTRS-GCN, NW-UCLA's preprocessing": (AS_NW_UCLA, "zero", 1),
    "HD-GCN, bones": (replace(LIVELY, backbone="hdgcn", stream="bone"), "repeat", 2),
}


@pytest.mark.parametrize("case", CASES)
def test_other_networks_and_data(tmp_path: Path, case: str) -> None:
    """Every kind of network, stream, body rule and preprocessing is exported with evaluation's numbers.

    The exporter leaves nothing of its own behind: the same process still evaluates.
    """
    config, rule, slots = CASES[case]
    found = made(tmp_path, config, rule, slots)
    assert_agrees(found, flips=1 if config.backbone == "hdgcn" else 0)
    scores = evaluated(found, read_skeletons(tmp_path / "crowd" / "skeletons.h5"), [4, 5])
    assert np.isfinite(scores).all()


@pytest.fixture
def unlike(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter makes a graph whose classifier is a little off."""
    proto = onnx.load(exported.path)
    bias = next(entry for entry in proto.graph.initializer if entry.name.endswith("classifier.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.01 * exported.agreement.scale)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    monkeypatch.setattr("mmcl.trainer.inference.onnx.graph_of", lambda *_: proto)


@pytest.mark.usefixtures("unlike")
def test_a_graph_with_other_numbers_is_refused(exported: Exported, tmp_path: Path) -> None:
    """What differs from PyTorch by more than rounding is not written, and the file that was there stays."""
    out = tmp_path / "model.onnx"
    out.write_bytes(b"the old one")
    with pytest.raises(RuntimeError, match=r"model\.onnx: not written, .*differ by up to .* in 7 of 7 clips"):
        export_onnx(exported.path.parent, out, None, quiet)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.onnx", b"the old one")]


def test_data_that_are_gone(exported: Exported, tmp_path: Path) -> None:
    """Without its data a run can't be checked: --data is what to say."""
    run = Path(shutil.copytree(exported.path.parent, tmp_path / "run"))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(exported.run.data, str(tmp_path / "gone")))
    with pytest.raises(FileNotFoundError, match=r"gone: the data of this run is not there; pass --data"):
        export_onnx(run, tmp_path / "model.onnx", None, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_package(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said before anything is done."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime missing; pip install 'mmcl\[onnx\]'"):
        export_onnx(exported.path.parent, tmp_path / "model.onnx", None, quiet)


@pytest.mark.parametrize(
    ("out", "error", "said"),
    [
        ("it.onnx", ValueError, "a folder; wanted a file"),
        ("nowhere/a.onnx", FileNotFoundError, "there is no folder"),
        ("a.txt", ValueError, "wanted a name that ends in .onnx"),
    ],
)
def test_a_place_that_is_none(exported: Exported, tmp_path: Path, out: str, error: type, said: str) -> None:
    (tmp_path / "it.onnx").mkdir()
    with pytest.raises(error, match=said):
        export_onnx(exported.path.parent, tmp_path / out, None, quiet)


def test_another_format(tmp_path: Path) -> None:
    from mmcl.trainer.inference.command import export

    with pytest.raises(ValueError, match="--to tflite: no such format; there is onnx"):
        export(tmp_path, "tflite")


def test_a_run_that_is_none_is_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not that its folder, where the file would go, is missing, and not after a minute."""
    from mmcl.trainer.inference.command import export

    with pytest.raises(FileNotFoundError, match="no run here"):
        export(tmp_path / "nothere", "onnx")
    assert not capsys.readouterr().out


def test_the_command_shows_what_was_made(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inputs, outputs, size, and how far it is from PyTorch."""
    from mmcl.trainer.inference.command import export

    monkeypatch.setattr("mmcl.trainer.inference.onnx.graph_of", lambda *_: onnx.load(exported.path))
    export(exported.path.parent, "onnx", tmp_path / "it.onnx")
    shown = capsys.readouterr().out
    assert "joints float32 [N, 2, T, 25, 3] (kinect-v2, metres); lengths int64 [N]" in shown
    assert "7 test clips" in shown
    assert "same top-1" in shown
    assert f"written: {tmp_path / 'it.onnx'}" in shown.replace("\n", "")


def test_the_example_needs_onnxruntime_alone(exported: Exported, skeletons: Skeletons, tmp_path: Path) -> None:
    """docs/examples/onnx_predict.py gives evaluation's scores, and loads neither torch nor mmcl."""
    rows = [3, 6, 7]
    for row in rows:
        np.save(tmp_path / f"{row}.npy", skeletons.joints[row].reshape(skeletons.bodies[row], -1, 25, 3))
    script = (
        "import runpy, sys\nscript = sys.argv[1]\nsys.argv = sys.argv[1:]\nrunpy.run_path(script)\n"
        "assert not {'torch', 'mmcl'} & sys.modules.keys(), 'loaded'"
    )
    files = [tmp_path / f"{row}.npy" for row in rows]
    command = [sys.executable, "-c", script, ROOT / "docs" / "examples" / "onnx_predict.py", exported.path, *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = evaluated(exported, skeletons, rows)
    np.testing.assert_allclose([line["scores"] for line in lines], wanted, atol=2e-5 * np.abs(wanted).max())
    assert [line["class"] for line in lines] == [exported.run.classes[best] for best in wanted.argmax(1)]


def test_javascript_gives_the_same_numbers(exported: Exported, skeletons: Skeletons, ask: Callable) -> None:
    """onnxruntime-web in node, as a page runs it."""
    folder, node = ROOT / "tests" / "javascript", shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (folder / "node_modules" / "onnxruntime-web").exists():
        pytest.skip("onnxruntime-web is not installed; npm ci --ignore-scripts --prefix tests/javascript")
    feed = fed(skeletons, list(range(10)), behind=9.0)
    content = {"shape": feed["joints"].shape, "joints": feed["joints"].ravel(), "lengths": feed["lengths"]}
    text = json.dumps({name: list(map(float, values)) for name, values in content.items()})
    command = [node, str(folder / "predict.mjs"), str(exported.path)]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, (scores, probabilities) = json.loads(done.stdout), ask(feed)
    np.testing.assert_allclose(found["scores"], scores.ravel(), atol=2e-5 * np.abs(scores).max())
    np.testing.assert_allclose(found["probabilities"], probabilities.ravel(), atol=1e-5)
