"""A trained network asked about arrays: evaluation's numbers bit for bit, and what is no clip is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.skeletons import TEST, Skeletons, read_skeletons
from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.tests.predicted import CLASSES, untrained, untrained_on
from mmcl.tests.training import people
from mmcl.trainer.inference.predictor import OnnxPredictor, Prediction, Predictor
from mmcl.trainer.testing.evaluate import evaluate

RNG = np.random.default_rng(0)


def clip(bodies: int = 1, frames: int = 9, joints: int = 20) -> np.ndarray:
    return RNG.normal(size=(bodies, frames, joints, 3)).astype(np.float32)


def clips_of(skeletons: Skeletons, rows: np.ndarray) -> list[np.ndarray]:
    return [skeletons.joints[row].reshape(skeletons.bodies[row], -1, *skeletons.joints[row].shape[1:]) for row in rows]


@pytest.mark.parametrize("rule", ["zero", "repeat"])
def test_scores_are_evaluations_bit_for_bit(rule, tmp_path):
    """Clips of different lengths and bodies, whatever stands in for an absent one."""
    data = people(tmp_path / "data", rule)
    run = untrained_on(data, tmp_path / "run")
    result = evaluate(run, None, lambda done, total: None)
    network = Predictor.load(run, "cpu")
    skeletons = read_skeletons(data / "skeletons.h5")
    found = network.scores(clips_of(skeletons, skeletons.rows("xsub", TEST)))
    with np.load(result.folder / "scores.npz", allow_pickle=False) as written:
        assert np.array_equal(found, written["scores"])


def test_a_network_says_what_it_takes_and_tells_apart(tmp_path):
    network = Predictor.load(untrained(tmp_path / "run", KINECT_V2, slots=2))
    assert (network.classes, network.layout, network.slots) == (CLASSES, KINECT_V2, 2)
    assert (network.stream, network.coordinates) == ("joint", "metres")
    assert str(network.about).startswith("made xsub, stream joint, ctrgcn, 6 classes, last epoch; ")
    assert str(network.about).endswith("not calibrated")


def test_a_clip_is_told_its_classes_by_falling_probability(tmp_path):
    network = Predictor.load(untrained(tmp_path / "run"))
    one = clip()
    found = network.predict(one)
    assert len(found) == 5 and all(isinstance(prediction, Prediction) for prediction in found)
    assert [p.probability for p in found] == sorted((p.probability for p in found), reverse=True)
    assert sum(p.probability for p in network.predict(one, top=6)) == pytest.approx(1)
    scores = network.scores([one])[0]
    assert found[0].name == CLASSES[int(scores.argmax())]
    assert [p.name for p in network.predict([one, clip()])[0]] == [p.name for p in found]
    assert network.predict(one[0]) == found  # [T, V, 3] is one body
    assert network.predict([]) == [] and network.scores([]).shape == (0, 6)


def test_an_array_that_is_filled_up_with_zeros_is_the_clip_without_them(tmp_path):
    network, one = Predictor.load(untrained(tmp_path / "run")), clip()
    np.testing.assert_array_equal(network.scores([np.concatenate([one, 0 * one])]), network.scores([one]))


def test_a_tensor_is_one_clip_as_an_array_is(tmp_path):
    network, one = Predictor.load(untrained(tmp_path / "run")), clip()
    assert network.predict(torch.from_numpy(one)) == network.predict(one)


def test_what_cannot_be_answered_is_refused(tmp_path):
    """No probability is NaN, and no answer is cut off silently."""
    network = Predictor.load(untrained(tmp_path / "run"))
    with pytest.raises(ValueError, match="clip 1: its scores are not finite; are its joints metres"):
        network.predict([clip(), 1e37 * clip()])
    with pytest.raises(ValueError, match="clip 0: NaN or Inf"):  # more than float32 holds, and no warning
        network.predict(1e300 * clip().astype(np.float64))
    with pytest.raises(ValueError, match="top = 0; wanted 1 or more"):
        network.predict(clip(), top=0)


class Overflowing(Predictor):
    """A network whose numbers overflow for the second clip."""

    def _scores(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        scores = super()._scores(clips)
        scores[1, 0] = -np.inf
        return scores


def test_scores_that_are_not_finite_have_no_probabilities(tmp_path):
    """Of minus infinity it would be 0, and the other classes' would look like any."""
    found = Overflowing.load(untrained(tmp_path / "run"), "cpu").probabilities([clip(), clip(), clip()])
    assert np.isfinite(found[[0, 2]]).all() and np.isnan(found[1]).all()
    assert found.dtype == np.float32


BAD = {
    "too many bodies": (clip(2), "clip 1: 2 bodies; the network has room for 1"),
    "another layout": (clip(1, 9, 25), r"clip 1: float32 of shape \[1, 9, 25, 3\], wanted .*20, 3\] \(kinect-v1\)"),
    "no frames": (clip(1, 0), "clip 1: .*wanted numbers of"),
    "text": (np.array(["a"]), "clip 1: <U1 of shape"),
    "NaN": (np.where(np.arange(20)[:, None] == 3, np.nan, clip()), "clip 1: NaN or Inf"),
    "zeros": (0 * clip(), "clip 1: NaN or Inf among its joints, or all of them zero"),
}


@pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=BAD)
def test_what_is_no_clip_is_refused_by_its_place(bad, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        Predictor.load(untrained(tmp_path / "run")).scores([clip(), bad])


# -- exported files


def exported(path: Path, **changed: str) -> Path:
    """A network of three classes whose scores are a clip's summed coordinates times -1, 0 and 1."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the file")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs it")
    helper, kind = onnx.helper, onnx.TensorProto
    slots, joints = 2, len(KINECT_V1.joints)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["joints", "axes"], ["sum"], keepdims=0),
            helper.make_node("Unsqueeze", ["sum", "last"], ["column"]),
            helper.make_node("MatMul", ["column", "weight"], ["scores"]),
            helper.make_node("Identity", ["lengths"], ["frames"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("joints", kind.FLOAT, ["N", slots, "T", joints, 3]),
            helper.make_tensor_value_info("lengths", kind.INT64, ["N"]),
        ],
        [
            helper.make_tensor_value_info("scores", kind.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("frames", kind.INT64, ["N"]),
        ],
        [
            helper.make_tensor("axes", kind.INT64, [4], [1, 2, 3, 4]),
            helper.make_tensor("last", kind.INT64, [1], [1]),
            helper.make_tensor("weight", kind.FLOAT, [1, 3], [-1.0, 0.0, 1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    about = {"mmcl_format": "1", "classes": json.dumps(["a", "b", "c"]), "layout": json.dumps(asdict(KINECT_V1))}
    about |= {"coordinates": "metres", "slots": str(slots), "body_rule": "zero", "stream": "joint", "dataset": "made"}
    helper.set_model_props(model, about | {"split": "xsub", "backbone": "ctrgcn"} | changed)
    onnx.save(model, path)
    return path


def test_an_exported_file_is_asked_as_a_run_is(tmp_path):
    """Clips of any length and bodies go in together, filled up with zeros."""
    network = OnnxPredictor.load(exported(tmp_path / "tiny.onnx"))
    assert (network.classes, network.layout, network.slots) == (("a", "b", "c"), KINECT_V1, 2)
    clips = [clip(bodies, frames) for bodies, frames in ((1, 4), (2, 40), (1, 1))] * 30
    sums = np.array([one.sum() for one in clips])
    np.testing.assert_allclose(network.scores(clips), np.outer(sums, [-1, 0, 1]), rtol=1e-4, atol=1e-4)
    assert network.predict(clips[0], top=1)[0].name == ("c" if sums[0] > 0 else "a")
    with pytest.raises(ValueError, match="3 bodies"):
        network.scores([clip(3)])


def test_a_very_long_clip_does_not_fill_up_the_others_to_its_length(tmp_path):
    network = OnnxPredictor.load(exported(tmp_path / "tiny.onnx"))
    sizes = []
    run, network._run = network._run, lambda joints, lengths: (sizes.append(joints.shape), run(joints, lengths))[1]
    network.scores([clip(1, 3), clip(1, 3), clip(1, 40_000), clip(1, 3)])
    assert [shape[0] * shape[2] for shape in sizes] == [6, 40_000, 3]


def test_a_truncated_file_is_one_clear_line(tmp_path):
    path = exported(tmp_path / "tiny.onnx")
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"tiny\.onnx: .*mmcl export`") as raised:
            OnnxPredictor.load(path)
        assert "\n" not in str(raised.value)


def test_another_programs_file_and_damaged_metadata_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no network that this version of `mmcl export` wrote"):
        OnnxPredictor.load(exported(tmp_path / "tiny.onnx", mmcl_format="2"))
    with pytest.raises(ValueError, match="damaged metadata"):
        OnnxPredictor.load(exported(tmp_path / "tiny.onnx", layout="{}"))
    for odd in ({"classes": '["a"]'}, {"slots": "1"}, {"slots": "-3"}, {"coordinates": "moon"}):
        with pytest.raises(ValueError, match=r"tiny\.onnx: damaged.*export it again"):
            OnnxPredictor.load(exported(tmp_path / "tiny.onnx", **odd))
    with pytest.raises(FileNotFoundError, match="no such file; `mmcl export`"):
        OnnxPredictor.load(tmp_path / "nothere.onnx")


def test_an_exported_file_needs_no_torch(tmp_path):
    path = exported(tmp_path / "tiny.onnx")
    code = (
        "import sys; sys.modules['torch'] = None\nimport numpy as np, mmcl\n"
        f"print(mmcl.load_run({str(path)!r}).predict(np.ones((1, 4, 20, 3), np.float32))[0].name)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout == "c\n", found.stderr
