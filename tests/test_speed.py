"""What a run costs: measured by the protocol that is printed, recorded where caches are gone, and skeleton-only."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from mmcl.cache.skeletons import read_skeletons
from mmcl.tests.features import write_cache
from mmcl.tests.training import Watch, metrics, weights
from mmcl.trainer.backbones.cost import cost
from mmcl.trainer.config import Config
from mmcl.trainer.loop.checkpoint import load_model, save_weights
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.run import read_run
from mmcl.trainer.testing import speed as module
from mmcl.trainer.testing.evaluate import evaluate
from mmcl.trainer.testing.proof import skeleton_only
from mmcl.trainer.testing.speed import Speed, measure_speed, speed_lines, speed_table
from mmcl.trainer.testing.training_cost import TeacherCost, teachers_of

CONFIG = Config(split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=2, warmup=0, milestones=(), lr=0.05)
CPU = torch.device("cpu")
KINDS = ("rgb", "text")

EVALUATE = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from mmcl.trainer.testing.evaluate import evaluate
evaluate(Path(sys.argv[1]), None, lambda done, total: None)
"""


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `acted`, an RGB and a text cache in it, and a `run` taught by both. Not to be changed."""
    folder = tmp_path_factory.mktemp("speed")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    names, rng = read_skeletons(data / "skeletons.h5").names, np.random.default_rng(0)
    shown = {"feature": rng.normal(size=(24, 5)).astype(np.float16), "logits": rng.normal(size=(24, 9))}
    said = {"prompt_feature": rng.normal(size=(24, 3)).astype(np.float32)}
    rgb = write_cache(data, names, shown)
    text = write_cache(data, names, said, kind="text", prompt="holding-object", model="llm [bold]")
    train(plan(Job(data, folder / "run", CONFIG, rgb, (text,))), folder / "run", Watch())
    return folder


@pytest.fixture
def own(shared: Path, tmp_path: Path) -> Path:
    """A test's own copy of it, whose run looks at its own data."""
    folder = Path(shutil.copytree(shared, tmp_path / "own"))
    described = json.loads((folder / "run" / "run.json").read_text())
    (folder / "run" / "run.json").write_text(json.dumps(described | {"data": str(folder / "acted")}))
    return folder


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.05)


def measured(folder: Path) -> Speed:
    run = read_run(folder)
    return measure_speed(run, load_model(folder, run), folder, CPU)


def costs_of(folder: Path) -> tuple[TeacherCost, ...]:
    return teachers_of(read_run(folder / "run"))


def shown(speed: Speed) -> str:
    console = Console(width=160)
    with console.capture() as printed:
        console.print(speed_table(speed))
    return printed.get()


# -- the protocol


def test_parameters_and_multiply_adds_are_the_runs_networks_own(own: Path):
    found, run = measured(own / "run"), read_run(own / "run")
    assert found.parameters == sum(p.numel() for p in load_model(own / "run", run).parameters())
    wanted = cost("ctrgcn", run.layout, frames=16, bodies=run.slots, classes=6, width=8)
    assert found.multiply_adds == wanted.multiply_adds


def test_the_protocol_is_one_line_that_says_how_it_was_measured(own: Path):
    found = measured(own / "run")
    joints, slots = len(read_run(own / "run").layout.joints), read_run(own / "run").slots
    assert f"[N, 3, 16, {joints}, {slots}] of noise, all bodies present; float32" in found.protocol
    assert f"1 thread, torch {torch.__version__};" in found.protocol and "\n" not in found.protocol
    assert speed_lines(found) == (f"measured: {found.protocol}", found.proof)
    timed = r"median pass of (\d+) timed after (\d) of warm-up at N = 1, of (\d+) after (\d) at N = 16"
    said = re.search(timed, found.protocol)
    assert said and all(1 <= int(said[place]) <= 50 for place in (1, 3)) and found.batch == 16


class Slow(torch.nn.Module):
    """A network on which a clip costs `seconds` of the clock that stands for time."""

    def __init__(self, clock: list[float], seconds: Sequence[float]) -> None:
        super().__init__()
        self.clock, self.left, self.given = clock, list(seconds), list[tuple[int, ...]]()

    def forward(self, clips: torch.Tensor) -> None:
        assert torch.is_inference_mode_enabled() and not self.training
        self.given.append(tuple(clips.shape))
        self.clock[0] += self.left.pop(0) * len(clips) if self.left else 0


def test_it_is_the_median_after_the_warm_up_and_stops_at_the_limit(own: Path, monkeypatch: pytest.MonkeyPatch):
    """Of one clip: a warm-up of 9 s is long enough; 0.9, 0.5 and 0.7 s fill the limit. Of sixteen clips: 1 s a clip."""
    monkeypatch.setattr(module, "SECONDS", 2.0)
    clock, run = [0.0], read_run(own / "run")
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    model = Slow(clock, [9, 0.9, 0.5, 0.7, 1, 1])
    found = measure_speed(run, model, own / "run", CPU)  # type: ignore[arg-type]
    assert (found.latency, found.throughput) == (pytest.approx(0.7), pytest.approx(1))
    assert "median pass of 3 timed after 1 of warm-up at N = 1, of 1 after 1 at N = 16" in found.protocol
    assert [shape[0] for shape in model.given] == [1] * 4 + [16] * 2


def test_fast_networks_are_timed_often_and_not_for_ever(own: Path, monkeypatch: pytest.MonkeyPatch):
    clock, run = [0.0], read_run(own / "run")
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    model = Slow(clock, [1e-6] * 110)
    found = measure_speed(run, model, own / "run", CPU)  # type: ignore[arg-type]
    assert "median pass of 50 timed after 5 of warm-up at N = 1, of 50 after 5 at N = 16" in found.protocol
    assert found.latency == pytest.approx(1e-6) and found.throughput == pytest.approx(1e6)


def test_an_accelerator_is_waited_for_in_every_pass(own: Path, monkeypatch: pytest.MonkeyPatch):
    """It works on while the host goes on: without waiting, only the launch would be timed."""
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    model = Slow([0.0], [])
    found = measure_speed(read_run(own / "run"), model, own / "run", torch.device("meta"))  # type: ignore[arg-type]
    assert waited == [torch.device("meta")] * len(model.given) and len(waited) == 4
    assert "; meta, 1 thread, torch" in found.protocol


# -- what training took beside it


def test_teachers_are_known_by_what_the_run_recorded_when_their_caches_are_gone(own: Path):
    before = costs_of(own)
    for kind in KINDS:
        shutil.rmtree(own / "acted" / kind)
    after = costs_of(own)
    assert after == before
    rgb, text = after
    assert (rgb.kind, rgb.name, rgb.clip_bytes, rgb.clips) == ("rgb", "some/net", 5 * 2, 24)
    assert (text.kind, text.name, text.clip_bytes) == ("text", "llm [bold], prompt holding-object", 3 * 4)
    assert rgb.cache_bytes and rgb.cache_bytes > 24 * (5 * 2 + 9 * 8)
    assert (rgb.parameters, rgb.seconds) == (None, None)  # nobody measured when these were written


def test_a_run_of_an_older_version_says_what_its_caches_still_say_and_then_that_nothing_is_known(own: Path):
    recorded = costs_of(own)
    described = json.loads((own / "run" / "run.json").read_text())
    del described["costs"]
    (own / "run" / "run.json").write_text(json.dumps(described))
    assert costs_of(own) == recorded
    for kind in KINDS:
        shutil.rmtree(own / "acted" / kind)
    assert {(t.name, t.parameters, t.clips, t.clip_bytes, t.cache_bytes) for t in costs_of(own)} == {
        ("some/net", None, None, None, None),
        ("llm [bold], prompt holding-object", None, None, None, None),
    }


@pytest.mark.parametrize("costs", [{"rgb": 1}, "much", {"KEY": {"clip_bytes": "a", "file_bytes": "b", "rows": "c"}}])
def test_a_record_that_is_none_is_as_good_as_no_record(own: Path, costs: object):
    described = json.loads((own / "run" / "run.json").read_text())
    text = json.dumps(described | {"costs": costs}).replace("KEY", described["rgb"]["key"])
    (own / "run" / "run.json").write_text(text)
    assert costs_of(own)[0].clip_bytes == 10


def test_heads_are_counted_without_their_features_statistics_and_time_is_that_of_all_epochs(own: Path):
    found = measured(own / "run")
    parts = weights(own / "run", "heads")
    assert found.heads == sum(value.numel() for name, value in parts.items() if "standardise" not in name)
    assert found.training_seconds == pytest.approx(sum(float(line["seconds"]) for line in metrics(own / "run")))


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_what_is_gone_is_not_known_and_no_error(own: Path, damage: str):
    for path in (own / "run" / "heads.safetensors", own / "run" / "metrics.csv"):
        path.unlink() if damage == "gone" else path.write_bytes(b"seconds\nlong\n\xff")
    found = measured(own / "run")
    assert (found.heads, found.training_seconds) == (None, None)
    rows = [line.split("│") for line in shown(found).splitlines() if "│" in line]
    lines = {row[1].strip(): row[2].strip() for row in rows}
    assert lines["parameters of FAM and FRM"] == lines["training"] == lines["its parameters"] == "not known"
    assert lines["parameters"] == f"{found.parameters:,}"
    assert "text teacher, frozen: llm [bold], prompt holding-object" in lines


def test_a_run_without_teachers_has_no_heads(data: Path, tmp_path: Path):
    train(plan(Job(data, tmp_path / "run", CONFIG, None)), tmp_path / "run", Watch())
    found = measured(tmp_path / "run")
    assert (found.heads, found.teachers) == (0, ()) and "it was trained without teachers" in found.proof


def test_costs_are_no_part_of_what_makes_two_runs_the_same(own: Path):
    """A run of an older version, which recorded none, is gone on with."""
    described = json.loads((own / "run" / "run.json").read_text())
    assert len(described["costs"]) == 2
    del described["costs"]
    (own / "run" / "run.json").write_text(json.dumps(described))
    caches = {kind: next((own / "acted" / kind).iterdir()) for kind in KINDS}
    again = plan(Job(own / "acted", own / "run", CONFIG, caches["rgb"], (caches["text"],)))
    assert train(again, own / "run", Watch()).finished


# -- skeletons only


def test_the_proof_says_what_the_network_holds_and_what_it_does_not(own: Path):
    said = skeleton_only(own / "run", read_run(own / "run"))
    assert f"model.safetensors holds the {len(weights(own / 'run'))} entries of the ctrgcn network and no other" in said
    assert "FAM and FRM lie in heads.safetensors" in said


@pytest.mark.parametrize(
    ("stray", "said"),
    [
        ("refine.matrices", r"2 entries of the teachers' heads \(align.mlp.0.bias, refine.matrices\); train again"),
        ("backbone.extra", r"1 entries differ from those of ctrgcn \(backbone.extra\)"),
    ],
)
def test_a_network_file_that_holds_more_is_refused_by_name(own: Path, stray: str, said: str):
    more = {stray: torch.ones(2)} | ({"align.mlp.0.bias": torch.ones(2)} if stray.startswith("refine") else {})
    save_weights(own / "run", {"heads": {}, "model": weights(own / "run") | more})
    with pytest.raises(ValueError, match=said):
        skeleton_only(own / "run", read_run(own / "run"))


def test_a_network_file_that_lacks_something_or_is_none_is_refused(own: Path):
    path = own / "run" / "model.safetensors"
    entries = load_file(path)
    entries.pop("classifier.bias")
    save_file(entries, path)
    with pytest.raises(ValueError, match=r"1 entries differ from those of ctrgcn \(classifier.bias\)"):
        skeleton_only(own / "run", read_run(own / "run"))
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged \("):
        skeleton_only(own / "run", read_run(own / "run"))


OPENED, IS_FOLDER = 0x20, 0x40000000  # of inotify: IN_OPEN, IN_ISDIR


class Opened:
    """The files under some folders that any library, in any process, opens: the kernel tells, not Python."""

    def __init__(self, *roots: Path) -> None:
        self._kernel = ctypes.CDLL(None, use_errno=True)
        self._file = self._kernel.inotify_init1(os.O_NONBLOCK)
        self._folders = dict[int, Path]()
        for folder in (found for root in roots for found in [root, *root.rglob("*")] if found.is_dir()):
            watch = self._kernel.inotify_add_watch(self._file, os.fsencode(folder), OPENED)
            assert watch >= 0, os.strerror(ctypes.get_errno())
            self._folders[watch] = folder

    def files(self) -> set[Path]:
        found, said, place = set[Path](), os.read(self._file, 1 << 20), 0
        os.close(self._file)
        while place < len(said):
            watch, mask, _, length = struct.unpack_from("iIII", said, place)
            name = said[place + 16 : place + 16 + length].rstrip(b"\0").decode()
            place += 16 + length
            if name and not mask & IS_FOLDER:
                found.add(self._folders[watch] / name)
        return found


@pytest.mark.skipif(sys.platform != "linux", reason="inotify, which tells of every file that is opened, is Linux's")
def test_evaluation_opens_the_skeletons_the_run_and_the_network_and_no_other_file(own: Path):
    """With all caches and the heads lying there; HDF5 and safetensors open files behind Python's back, too."""
    shutil.rmtree(own / "run" / "evaluation", ignore_errors=True)
    watched = Opened(own)
    done = subprocess.run([sys.executable, "-c", EVALUATE, own / "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened = {str(path.relative_to(own)) for path in watched.files()}
    assert opened == {"acted/skeletons.h5", "run/run.json", "run/model.safetensors"}
    assert (own / "run" / "evaluation" / "results.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_the_watch_on_files_would_see_a_cache_that_is_read(own: Path):
    """The same watch, and what opens a cache and the heads by their own libraries."""
    [cache] = (own / "acted" / "text").iterdir()
    watched = Opened(own)
    code = (
        "import sys; from pathlib import Path; from safetensors.torch import load_file\n"
        "from mmcl.cache.store import open_cache\n"
        "open_cache(Path(sys.argv[1])); load_file(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, cache, own / "run" / "heads.safetensors"], check=True)
    assert {"cache.h5", "recipe.json", "heads.safetensors"} == {path.name for path in watched.files()}


def test_the_command_gives_the_same_scores_with_all_caches_and_the_heads_deleted(own: Path):
    """`mmcl evaluate` as a user runs it; what is left is skeletons.h5, run.json and model.safetensors."""
    result = evaluate(own / "run", None, lambda done, total: None)
    wanted = np.load(result.folder / "scores.npz")["scores"]
    shutil.rmtree(result.folder)
    for path in (own / "acted").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    for path in (own / "run").iterdir():
        if path.name not in ("run.json", "model.safetensors"):
            path.unlink()
    command = [sys.executable, "-c", "from mmcl.cli import main; main()", "evaluate", own / "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(result.folder / "scores.npz")["scores"], wanted, rtol=1e-5, atol=1e-5)
