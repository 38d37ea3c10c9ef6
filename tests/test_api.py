"""The Python API: a light import, the examples of docs/api.md on real data, errors as in the commands."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmcl
from mmcl.tests.predicted import untrained_on
from mmcl.tests.test_predict_network import clips_of
from mmcl.tests.training import features

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs an example of the manual with words on its command line, and gives what it printed."""

    def run(name: str, *words: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_importing_it_loads_nothing_heavy():
    code = "import sys, mmcl; print(mmcl.load_run, mmcl.__all__, *sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not set(loaded) & {"torch", "numpy", "h5py", "mmcl.trainer", "mmcl.pipeline"}


def test_its_names_are_all_there_and_no_others():
    assert all(getattr(mmcl, name) for name in mmcl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        mmcl.predict  # noqa: B018 - a network's, not the package's


def test_a_clip_is_predicted_from_an_array(example, data, skeletons, tmp_path):
    run = untrained_on(data, tmp_path / "run")
    (clip,) = clips_of(skeletons, np.array([3]))
    np.save(tmp_path / "clip.npy", clip)
    first, second, third, last = example("api_predict.py", run, tmp_path / "clip.npy")
    network = mmcl.load_run(run)
    assert [line.split("%  ")[1] for line in (first, second, third)] == [p.name for p in network.predict(clip, top=3)]
    assert last.endswith("(1, 6)")


def test_a_data_set_and_a_cache_are_read_by_name(example, data, skeletons):
    features(data)
    about, clip, cache = example("api_data.py", data, "net")
    assert about == "acted: 24 clips of 6 classes, kinect-v1, metres"
    assert clip.startswith(f"{skeletons.names[0]} {skeletons.classes[skeletons.labels[0]]} (1, ")
    assert cache == "net (6,) 0 clips without features"
    rows = mmcl.open_cache(data, "llm")
    assert mmcl.open_cache(rows.folder).names == rows.names == list(skeletons.names)


def test_a_run_is_trained_resumed_and_tested(example, data, tmp_path):
    run = tmp_path / "run"
    (line,) = example("api_train.py", data, run)
    assert line.startswith("top-1 ") and line.endswith("of 12 clips; chance is 16.7%")
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert example("api_train.py", data, run) == [line]
    assert (run / "model.safetensors").stat().st_mtime_ns == before
    assert (run / "evaluation" / "results.json").exists()


def test_settings_are_the_configs_keys_and_what_they_leave_out_is_the_files(data, tmp_path, monkeypatch):
    """What is not said is left to the shipped config of the data."""
    with pytest.raises(ValueError, match="train: no such key 'epoch'; did you mean epochs"):
        mmcl.train(data, tmp_path / "run", epoch=3)
    asked = []

    def decide(request: object) -> None:
        asked.append(request)
        raise LookupError

    monkeypatch.setattr("mmcl.trainer.plan.decide", decide)
    with pytest.raises(LookupError):
        mmcl.train(data, tmp_path / "run", rotation=[0, 0, 0], lr=1)
    assert asked[0].settings == [{"rotation": (0.0, 0.0, 0.0), "lr": 1.0}]


def test_wrong_use_is_said_as_the_commands_say_it(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run here"):
        mmcl.load_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="no skeleton cache here"):
        mmcl.open_dataset(tmp_path)
    with pytest.raises(ValueError, match="no such cache"):
        mmcl.open_cache(data, "nobody")
    with pytest.raises(FileNotFoundError, match="no run here"):
        mmcl.evaluate(tmp_path)
    with pytest.raises(ValueError, match=r"an \.onnx file runs on the CPU"):
        mmcl.load_run(tmp_path / "x.onnx", device="cuda")
