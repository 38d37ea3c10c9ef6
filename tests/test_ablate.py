"""`mmcl ablate` and `mmcl train --stream all --seeds N` as they are run: cells, resumes, failures, company."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.lock import locked
from mmcl.cache.skeletons import Split, read_skeletons, write_skeletons
from mmcl.cli import main
from mmcl.tests.training import TINY, Watch, features, same, trained, weights
from mmcl.trainer.run import read_run

# one epoch of one step: what is tested is who trains what, not training
QUICK = replace(TINY, window=8, crop_frames=8, batch=12, epochs=1, warmup=0, milestones=(), seed=1)
CHANGED = ("width", "window", "crop_frames", "batch", "epochs", "warmup", "milestones", "lr", "seed")
SETTINGS = [f"--set={name}={json.dumps(getattr(QUICK, name))}" for name in CHANGED]
SPLIT = ("--split", "xsub", *SETTINGS)
NONE = ("--rgb", "none", "--text", "none")


class Command:
    """Runs `mmcl ...` in this process and remembers what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.out = self.error = ""

    def __call__(self, *words: object) -> int:
        self._monkeypatch.setattr(sys, "argv", ["mmcl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.error = self._capsys.readouterr()
        return int(ended.value.code or 0)


@pytest.fixture
def mmcl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def taught(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set with a cache of RGB features and one of text features. Not to be changed."""
    data = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("taught") / "acted"))
    features(data)
    return data


def cells(out: Path) -> list[dict[str, str]]:
    with (out / "matrix.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def kept(out: Path) -> dict[str, bytes]:
    """The weights of every run in a folder, by its name."""
    return {str(path.parent.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("model.safetensors"))}


def test_an_ablation_is_a_run_a_cell_and_a_table_of_them(mmcl: Command, taught: Path, tmp_path: Path):
    """Each run is what `mmcl train` makes of the same settings; CSV, JSON, PNG and the terminal hold all of it."""
    out, ablate = tmp_path / "out", ("ablate", taught, *SPLIT, "--only", "none,both-shuffled", "--seeds", "2")
    assert mmcl(*ablate, "--out", out) == 0
    names = [f"{name}/joint/seed{seed}" for seed in (1, 2) for name in ("none", "both-shuffled")]
    assert [(line["run"], line["status"], line["kept"]) for line in cells(out)] == [
        (name, "tested", "last epoch") for name in names
    ]
    for line in cells(out):
        result = json.loads((out / line["run"] / "evaluation" / "results.json").read_text())
        assert float(line["top1"]) == result["top1"] and int(line["seed"]) == result["seed"]
    trained(taught, tmp_path / "plain", replace(QUICK, seed=2, features="shuffled"), rgb=None, text=None)
    assert same(weights(tmp_path / "plain"), weights(out / "both-shuffled" / "joint" / "seed2"))
    assert read_run(out / "both-shuffled" / "joint" / "seed2") == read_run(tmp_path / "plain")
    assert "4 trainings, ablations none, both-shuffled x streams joint x seeds 1, 2" in mmcl.out
    row = r"both-shuffled +│ joint +│ +2 │ +[\d.]+ ± [\d.]+ │.*│ +[+-][\d.]+ ± [\d.]+ \(2 seeds\) │"
    assert re.search(row, mmcl.out) and "CONTROL: shuffled features" in mmcl.out
    assert "minus none: the mean over seeds" in mmcl.out and "kept: last epoch" in mmcl.out
    groups = {group["ablation"]: group for group in json.loads((out / "matrix.json").read_text())["groups"]}
    assert groups["both-shuffled"]["top1_minus_none"]["n"] == 2 and groups["none"]["top1_minus_none"] is None
    assert (out / "matrix.png").stat().st_size > 10_000
    before = kept(out)
    assert mmcl(*ablate, "--out", out) == 0
    assert mmcl.out.count("done already") == 4 and kept(out) == before
    assert mmcl(*ablate, "--out", out, "--set", "lr=0.01") == 2
    assert re.search(
        r"none/joint/seed1: holds another run; give another --out\n  lr: there 0.05, asked 0.01", mmcl.error
    )
    assert kept(out) == before


def test_streams_and_seeds_make_a_matrix_and_one_of_each_a_plain_run(
    mmcl: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert mmcl("train", data, *SPLIT, *NONE, "--stream", "bone,joint-motion") == 0
    assert sorted(kept(tmp_path)) == [f"runs/acted-xsub-matrix/{stream}/seed1" for stream in ("bone", "joint-motion")]
    assert "ablation" not in mmcl.out
    assert mmcl("train", data, *SPLIT, *NONE, "--stream", "bone") == 0
    assert same(weights(Path("runs/acted-xsub-bone")), weights(Path("runs/acted-xsub-matrix/bone/seed1")))
    assert not list(Path("runs/acted-xsub-bone").glob("matrix*"))


def signals_at(step: int, number: int) -> Callable[..., object]:
    """A stand-in for who looks on: sends this process a signal after so many steps."""
    seen = [0]

    def on_step(done: int, total: int) -> None:
        seen[0] += 1
        if seen[0] == step:
            os.kill(os.getpid(), number)

    @contextmanager
    def watched(*_: object) -> Iterator[Watch]:
        yield Watch(on_step)

    return watched


def test_a_signal_saves_the_cell_in_flight_and_the_same_command_goes_on(
    mmcl: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped in the second of two cells before its last step; the end is that of an unbroken matrix."""
    train = ("train", data, *SPLIT, "--set=batch=4", *NONE, "--seeds", "2", "--out")
    with monkeypatch.context() as patched:
        patched.setattr("mmcl.trainer.report.watched", signals_at(4, signal.SIGTERM))
        assert mmcl(*train, tmp_path / "out") == 143
    assert (
        mmcl.error.count("mmcl: stopped, and what was trained is kept; run the same command again, it goes on\n") == 1
    )
    assert [line["status"] for line in cells(tmp_path / "out")] == ["tested", "not finished"]
    assert (tmp_path / "out" / "joint" / "seed2" / "state.pt").exists()
    assert mmcl(*train, tmp_path / "out") == 0
    assert "1/2 joint/seed1: done already" in mmcl.out
    assert "resumed after step 2 of epoch 1" in (tmp_path / "out" / "joint" / "seed2" / "log.txt").read_text()
    assert mmcl(*train, tmp_path / "whole") == 0
    assert kept(tmp_path / "out") == kept(tmp_path / "whole")


def test_a_cell_that_fails_is_recorded_and_the_others_go_on(
    mmcl: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import mmcl.trainer.matrix.runner as runner

    whole, out = runner.train, tmp_path / "out"

    def train(planned, *words, **named):
        if planned.run.config.seed == 1:
            raise RuntimeError("epoch 1, step 1: the loss is not finite on wave-1; nothing is kept")
        return whole(planned, *words, **named)

    command = ("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", out)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "train", train)
        assert mmcl(*command) == 1
    assert "failed: joint/seed1: epoch 1, step 1: the loss is not finite on wave-1" in mmcl.out
    assert "1 of 2, 1 failed" in mmcl.out and mmcl.error == ""
    assert [(line["status"], line["error"][:7]) for line in cells(out)] == [("failed", "epoch 1"), ("tested", "")]
    assert mmcl(*command) == 0
    assert mmcl.out.index("joint/seed2: done already") < mmcl.out.index("2/2 joint/seed1")  # what failed comes last
    assert [line["status"] for line in cells(out)] == ["tested", "tested"]


def test_the_last_command_says_why_a_cell_fails(
    mmcl: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import mmcl.trainer.matrix.runner as runner

    for why in ("the disk is full", "the disk is away"):

        def train(*_: object, why: str = why, **__: object):
            raise OSError(why)

        monkeypatch.setattr(runner, "train", train)
        assert mmcl("train", data, *SPLIT, *NONE, "--seeds", "1", "--out", tmp_path / "out") == 1
        assert [line["error"] for line in cells(tmp_path / "out")] == [why]


def test_a_cell_whose_results_are_damaged_is_tested_again(mmcl: Command, data: Path, tmp_path: Path):
    command = ("train", data, *SPLIT, *NONE, "--seeds", "1", "--out", tmp_path / "out")
    assert mmcl(*command) == 0
    before, results = cells(tmp_path / "out"), tmp_path / "out" / "joint" / "seed1" / "evaluation" / "results.json"
    results.write_text("{}")
    assert mmcl(*command) == 0
    assert "done already" not in mmcl.out and cells(tmp_path / "out") == before
    assert json.loads(results.read_text())["top1"] == float(before[0]["top1"])


def test_a_smaller_command_into_the_same_folder_says_what_its_table_leaves_out(
    mmcl: Command, data: Path, tmp_path: Path
):
    command, left_out = ("train", data, *SPLIT, *NONE, "--out", tmp_path / "out"), "left out of the table"
    assert mmcl(*command, "--seeds", "2") == 0 and left_out not in mmcl.out
    assert mmcl(*command, "--seeds", "1") == 0
    assert f"{left_out}, as they are no cells of this command: joint/seed2" in mmcl.out
    assert [line["run"] for line in cells(tmp_path / "out")] == ["joint/seed1"]


def test_a_real_divergence_is_a_failed_cell(mmcl: Command, data: Path, tmp_path: Path):
    settings = ("--set=lr=1e30", "--set=batch=4", "--set=epochs=2")
    assert mmcl("train", data, *SPLIT, *NONE, *settings, "--seeds", "1", "--out", tmp_path / "out") == 1
    assert re.search(r"failed: joint/seed1: epoch \d, step \d: .* is not finite", mmcl.out)
    assert "Traceback" not in mmcl.out + mmcl.error


def test_a_cell_that_another_process_trains_is_passed_over(mmcl: Command, data: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = ("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", out)
    (out / "joint" / "seed1").mkdir(parents=True)
    with locked(out / "joint" / "seed1" / "train.lock", wait=False):
        assert mmcl(*command) == 0
    assert "1/2 joint/seed1: passed over, another process is training it" in mmcl.out
    assert "other processes are training joint/seed1; whoever is last writes the whole table" in mmcl.out
    assert [line["status"] for line in cells(out)] == ["not finished", "tested"]


def test_a_split_without_test_clips_is_trained_and_said_not_to_be_tested(mmcl: Command, data: Path, tmp_path: Path):
    skeletons = read_skeletons(data / "skeletons.h5")
    everyone = {"xsub": Split(np.ones_like(skeletons.splits["xsub"].sides))}
    write_skeletons(data / "skeletons.h5", replace(skeletons, splits=everyone))
    command = ("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", tmp_path / "out")
    assert mmcl(*command) == 0
    assert "2 trained, not tested" in mmcl.out and "split xsub has no test clips" in mmcl.out
    assert len(kept(tmp_path / "out")) == 2 and not (tmp_path / "out" / "matrix.png").exists()
    assert [line["top1"] for line in cells(tmp_path / "out")] == ["", ""]
    assert mmcl(*command) == 0 and mmcl.out.count("done already") == 2


def test_epochs_chosen_on_the_test_set_are_labelled_in_every_output(mmcl: Command, data: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert mmcl("train", data, *SPLIT, *NONE, "--seeds", "1", "--select-on-test", "--out", out) == 0
    assert "EPOCHS WERE CHOSEN ON THE TEST SET" in mmcl.out
    assert "test split, skeletons only; best epoch CHOSEN ON THE TEST SET" in mmcl.out
    assert cells(out)[0]["kept"] == "best epoch CHOSEN ON THE TEST SET"
    assert json.loads((out / "matrix.json").read_text())["select_on_test"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ablate", *SPLIT), "no features to compare trainings with; make some with `mmcl extract-features`"),
        (("ablate", *SPLIT, "--rgb", "net"), "--rgb: there is no rgb cache|no rgb cache"),
        (("train", *SPLIT, *NONE, "--stream", "bones"), "--stream bones: no such stream: did you mean bone"),
        (("train", *SPLIT, *NONE, "--seeds", "2", "--set=batch=99"), "batch 99: an epoch has 12 training clips"),
        (("train", *SPLIT, *NONE, "--init", "a", "--init-backbone", "b"), "--init and --init-backbone: give one"),
        (("train", *SPLIT, *NONE, "--seeds", "2", "--device", "cuda:7"), "--device cuda:7: can't be used here"),
    ],
    ids=lambda words: " ".join(words[-2:]) if isinstance(words, tuple) else "",
)
def test_wrong_use_is_one_clear_line_and_nothing_is_written(
    mmcl: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
):
    monkeypatch.chdir(tmp_path)
    assert mmcl(words[0], data, *words[1:]) == 2
    assert re.search(said, mmcl.error) and mmcl.error.startswith("mmcl: ")
    assert sorted(tmp_path.iterdir()) == [data]


# -- in company


def started(*words: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-m", *launcher, *(("-m",) if launcher else ()), "mmcl.cli", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def launched(code: str, *words: object) -> list[tuple[int, str]]:
    """Exit status and words of two launched processes that nobody ends: each runs the code on the words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    common |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command, pipe = [sys.executable, "-c", code, *map(str, words)], subprocess.PIPE
    each = [os.environ | common | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    both = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for environment in each]
    try:
        said = ["".join(process.communicate(timeout=120)) for process in both]
    finally:
        for process in both:
            process.kill()
    return [(process.returncode, words) for process, words in zip(both, said, strict=True)]


def test_two_processes_share_a_matrix_without_a_coordinator(data: Path, tmp_path: Path):
    """The same command twice at once: every cell is trained by one of them, and the table at the end is whole."""
    out = tmp_path / "out"
    both = [started("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", out) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [line["status"] for line in cells(out)] == ["tested"] * 2
    for seed in (1, 2):
        assert (out / "joint" / f"seed{seed}" / "log.txt").read_text().count("epoch   1/1") == 1


def test_launched_processes_train_each_cell_together_and_say_things_once(data: Path, tmp_path: Path):
    """Under torchrun: one table, one run of half the batch each; and an error of all of them is one line."""
    out, torchrun = tmp_path / "out", ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = ("train", data, *SPLIT, *NONE, "--seeds", "1", "--out", out)
    whole, refused = started(*command, launcher=torchrun), started(*command, "--set=batch=1", launcher=torchrun)
    said, error = whole.communicate(timeout=240)
    assert whole.returncode == 0, error
    assert said.count("2 processes on cpu, 6 clips of a batch each") == 1 and said.count("epoch   1/1") == 1
    assert [line["status"] for line in cells(out)] == ["tested"]
    said, error = refused.communicate(timeout=240)
    assert refused.returncode != 0 and error.count("mmcl: batch 1: ") == 1, error


MAIN_FAILS = """
import sys
import mmcl.trainer.loop.train as loop
from mmcl.cli import main
from mmcl.trainer.processes import share

def log(*words):
    if share().main:
        raise ValueError("a letter that no file takes")

loop._log = log
main()
"""


def test_an_error_of_the_main_process_alone_ends_a_launched_matrix_with_its_reason(data: Path, tmp_path: Path):
    """The others can't go on without it, and that they lost it is not why the cell failed."""
    command = ("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", tmp_path / "out")
    (code, said), (other_code, _) = launched(MAIN_FAILS, *command)
    assert code == 2 and "mmcl: a letter that no file takes" in said and other_code != 0
    assert (tmp_path / "out" / "joint" / "seed1" / "failed.txt").read_text() == "a letter that no file takes\n"
    assert not (tmp_path / "out" / "joint" / "seed2").exists()


def test_an_error_that_the_main_process_meets_for_all_is_one_cells_alone(data: Path, tmp_path: Path):
    """A damaged state of the first of two cells: recorded, and both processes train the second."""
    first = tmp_path / "out" / "joint" / "seed1"
    first.mkdir(parents=True)
    (first / "state.pt").write_bytes(b"PK half a file")
    command = ("train", data, *SPLIT, *NONE, "--seeds", "2", "--out", tmp_path / "out")
    said = launched("from mmcl.cli import main; main()", *command)
    assert [code for code, _ in said] == [1, 1] and "failed: joint/seed1: " in said[0][1]
    assert [(line["status"], "state.pt: damaged" in line["error"]) for line in cells(tmp_path / "out")] == [
        ("failed", True),
        ("tested", False),
    ]
