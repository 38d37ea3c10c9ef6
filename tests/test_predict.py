"""`mmcl predict` as a user types it: tables, lines and JSON, bad files in the middle, pipes that close."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import TEST, read_skeletons
from mmcl.cli import main
from mmcl.pipeline.preparation.layouts import KINECT_V1, KINECT_V2
from mmcl.tests.ntu_files import acted, write_skeleton
from mmcl.tests.predicted import lines, untrained, untrained_on
from mmcl.tests.test_own_files import BODY, npy, rows
from mmcl.tests.test_predict_network import exported
from mmcl.trainer.testing.evaluate import evaluate

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # of a process of its own


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`mmcl ...` in this process, with `stdin` as its standard input."""

    def run(*words: object, stdin: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["mmcl", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two clips, and a bad file between them."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.npy").write_bytes(npy(BODY))
    (folder / "b.npy").write_bytes(npy(BODY)[:99])
    (folder / "c.csv").write_bytes(rows(2 * BODY))
    return folder


def test_a_runs_own_raw_files_have_evaluations_numbers(command, raw, data, tmp_path):
    """From the raw files of its test clips, in their order, through the real command."""
    run = untrained_on(data, tmp_path / "run")
    result = evaluate(run, None, lambda done, total: None)
    skeletons = read_skeletons(data / "skeletons.h5")
    names = [skeletons.names[row] for row in skeletons.rows("xsub", TEST)]
    paths = {path.stem: path for path in (raw / "skeletons").iterdir()}
    found = command("predict", run, "-", "--json", "--top", 6, stdin="".join(f"{paths[name]}\n" for name in names))
    assert found.returncode == 0, found.stderr
    answers = lines(found.stdout)
    assert [answer["clip"] for answer in answers] == names
    with np.load(result.folder / "scores.npz", allow_pickle=False) as written:
        scores = written["scores"].astype(np.float64)
    softmax = np.exp(scores - scores.max(1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    assert softmax.max() < 0.9999
    for answer, wanted in zip(answers, softmax, strict=True):
        by_class = {entry["class"]: entry["probability"] for entry in answer["top"]}
        np.testing.assert_allclose([by_class[name] for name in result.run.classes], wanted, rtol=1e-5)


def test_json_has_an_object_a_clip_and_one_with_the_reason_for_a_bad_file(command, run, files):
    found = command("predict", run, files, "--json", "--top", 2)
    first, bad, last = lines(found.stdout)
    assert found.returncode == 1
    assert (first["file"], first["clip"], first["frames"], first["bodies"]) == (str(files / "a.npy"), "a", 5, 1)
    assert [sorted(entry) for entry in first["top"]] == [["class", "probability"]] * 2
    assert sorted(bad) == ["clip", "error", "file"] and bad["error"].startswith("cut short")
    assert last["clip"] == "c"
    assert found.stderr.splitlines()[0].startswith("made xsub, stream joint, ctrgcn, 6 classes, last epoch; probab")
    assert found.stderr.splitlines()[-1] == "clips: 2; files or clips that could not be used: 1"


def test_elsewhere_than_on_a_terminal_there_is_a_line_a_clip_with_tabs(command, run, files):
    """No name steers a terminal: a class of this run would clear it."""
    (files / "d\x1b[2J.npy").write_bytes(npy(BODY))
    found = command("predict", run, files, "--top", 6)
    cells = [line.split("\t") for line in found.stdout.splitlines()]
    assert [len(row) for row in cells] == [8, 3, 8, 8]
    assert cells[0][:2] == [str(files / "a.npy"), "a"] and cells[0][2].endswith("%")
    assert cells[1][2].startswith("error: cut short")
    assert "\x1b" not in found.stdout and "\ufffd[2J.npy" in cells[3][0]


def test_what_was_odd_and_taken_is_said_beside_the_answer(command, run, tmp_path):
    """Joints in millimetres give an answer, too."""
    (tmp_path / "mm.npy").write_bytes(npy(1000 * BODY))
    found = command("predict", run, tmp_path / "mm.npy", "--top", 1)
    assert found.stdout.splitlines()[0].split("\t")[-1].startswith("note: a body of more than 10 metres: 4,")
    assert found.stdout.splitlines()[0].endswith("millimetres?")
    assert found.stderr.splitlines()[-1].endswith("odd and taken, with a note: 1")


def test_on_a_terminal_it_is_a_table(run, files):
    ours, theirs = pty.openpty()
    with start("predict", run, ".", "--top", 6, stdout=theirs, cwd=files) as process:
        process.communicate(timeout=60)
    os.set_blocking(ours, False)
    shown = os.read(ours, 1 << 16).decode()
    assert process.returncode == 1
    assert "top 6" in shown and "[down]" in shown and "\na.npy " in shown
    assert "\x1b[31mcut short" in shown  # red
    assert "\x1b[2J" not in shown
    os.close(ours)
    os.close(theirs)


def test_files_without_a_bad_one_end_with_0_and_more_classes_than_there_are_do_no_harm(command, run, files):
    found = command("predict", run, files / "*.csv", files / "a.npy", "--json", "--top", 50)
    assert found.returncode == 0
    assert [len(answer["top"]) for answer in lines(found.stdout)] == [6, 6]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothere", "{files}"), "nothere: no run here"),
        (("{run}", "{files}/*.skeleton"), "no file matches"),
        (("{run}", "-"), "standard input names none"),
        (("{run}", ""), "an empty word among the files; wanted a file, a folder, a glob or -"),
        (("{run}", "x" * 5000), "xxx...: a name of 5,000 bytes; no path is longer than 4,096"),
        (("{files}/broken.onnx", "{files}"), "broken.onnx: damaged or cut short"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(command, run, files, words, said):
    pytest.importorskip("onnxruntime", reason="one of the cases needs it")
    (files / "broken.onnx").write_bytes(b"\x08\x08 no network")
    found = command("predict", *(word.format(run=run, files=files) for word in words), stdin="")
    assert found.returncode == 2
    assert found.stdout == ""
    assert said in found.stderr and "Traceback" not in found.stderr


def test_joints_too_large_for_the_network_are_no_answer(command, run, files):
    """They are finite, its scores are not; the other clips of the batch keep theirs."""
    (files / "b.npy").write_bytes(npy(1e37 * BODY))
    found = command("predict", run, files, "--json")
    first, huge, last = (json.loads(line, parse_constant=pytest.fail) for line in found.stdout.splitlines())
    assert found.returncode == 1
    assert huge["error"] == f"scores are not finite; joints of up to {1e37 * np.abs(BODY).max():.3g}"
    assert len(first["top"]) == len(last["top"]) == 5
    assert "clips: 2; files or clips that could not be used: 1" in found.stderr


def test_a_line_of_standard_input_that_is_no_path_costs_that_line(command, run, files):
    """As of `find -print0`, or of a file that was piped in."""
    good = files / "a.npy"
    found = command("predict", run, "-", "--json", stdin=f"{good}\0{good}\0\n{'x' * 5000}\n{good}\n")
    none, long, answer = lines(found.stdout)
    assert (found.returncode, answer["clip"]) == (1, "a")
    assert none["error"] == "names a line are wanted, not NUL bytes"
    assert long["file"].endswith("xxx...") and long["error"].startswith("a name of 5,000 bytes")


def test_an_exported_file_predicts_too(command, files, tmp_path):
    found = command("predict", exported(tmp_path / "tiny.onnx"), files / "a.npy", "--json")
    assert found.returncode == 0, found.stderr
    assert [entry["class"] for entry in lines(found.stdout)[0]["top"]] in (["a", "b", "c"], ["c", "b", "a"])


def test_ntus_files_are_predicted_by_a_run_of_ntus(command, tmp_path):
    write_skeleton(tmp_path / "raw", "S001C001P001R001A001", acted(7, 20))
    found = command("predict", untrained(tmp_path / "run", KINECT_V2, slots=2), tmp_path / "raw", "--json")
    (answer,) = lines(found.stdout)
    assert (found.returncode, answer["bodies"], answer["frames"]) == (0, 2, 20)
    refused = command("predict", untrained(tmp_path / "other", KINECT_V1), tmp_path / "raw", "--json")
    assert lines(refused.stdout)[0]["error"] == "25 joints (kinect-v2); this run wants 20 (kinect-v1)"


CODE = "from mmcl.cli import main; main()"


def start(*words: object, code: str = CODE, **options: object) -> subprocess.Popen[str]:
    """`mmcl ...` in a process of its own."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], text=True, env=ALONE, **pipes)


def test_a_reader_who_leaves_ends_it_without_a_word(run, tmp_path):
    """As in `mmcl predict RUN FOLDER | head`."""
    for number in range(400):
        (tmp_path / f"{number:03}.npy").write_bytes(npy(BODY))
    process = start("predict", run, tmp_path, "--json")
    with process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 128 + signal.SIGPIPE
    assert "Traceback" not in said and "Broken" not in said


def test_ctrl_c_ends_it_with_what_was_done(run, files):
    """It waits for paths on standard input that never come."""
    process = start("predict", run, "-", "--json")
    with process:
        assert process.stdin and process.stderr
        process.stderr.readline()  # what the run is: from now on it waits
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "stopped; clips: 0" in said and "Traceback" not in said


IMPATIENT = f"""
import os
from mmcl.pipeline import data_commands
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # one process reads, and not all files ahead of the answers
data_commands.PATIENCE = 0
{CODE}
"""


def whole(terminal: int) -> bytes:
    """All that is written to a terminal until nobody has it open any more."""
    said = b""
    with open(terminal, "rb", buffering=0) as file, suppress(OSError):  # which is how a terminal ends
        while part := file.read(1 << 16):
            said += part
    return said


def test_answers_go_to_their_file_while_a_bar_is_on_the_terminal(run, tmp_path):
    """As in `mmcl predict RUN FOLDER --json > answers.jsonl`."""
    (tmp_path / "files").mkdir()
    for number in range(100):
        (tmp_path / "files" / f"{number:03}.npy").write_bytes(npy(BODY) if number == 50 else b"spoilt")
    ours, theirs = pty.openpty()
    with (tmp_path / "answers.jsonl").open("w") as out:
        process = start("predict", run, "files", "--json", code=IMPATIENT, stdout=out, stderr=theirs, cwd=tmp_path)
        os.close(theirs)
        shown = whole(ours).decode()
        with process:
            assert process.wait(60) == 1
    assert "100/100" in shown and "spoilt" not in shown and '"clip"' not in shown
    answers = lines((tmp_path / "answers.jsonl").read_text())
    assert [Path(answer["file"]).stem for answer in answers] == [f"{number:03}" for number in range(100)]


def test_a_reader_of_both_outputs_who_leaves_ends_it_as_one_of_the_answers(run, files):
    """As in `mmcl predict ... 2>&1 | true`: what it says first finds nobody already."""
    with start("predict", run, files, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [("<&-", 0, "clips: 1; "), (">&-", 1, "mmcl: standard output is closed, where the answers go"), ("2>&-", 0, "")],
)
def test_a_closed_stream_that_is_not_needed_does_no_harm_and_one_that_is_is_said(run, files, closed, code, said):
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", CODE]
    command = [*shell, "predict", str(run), "a.npy", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, env=ALONE, cwd=files, check=False)
    assert found.returncode == code
    assert found.stderr.rpartition("\n")[0].rpartition("\n")[2].startswith(said) and "Traceback" not in found.stderr
    assert [answer["clip"] for answer in lines(found.stdout)] == ["a"] * (code == 0)


PEAK = """
import resource, sys
from mmcl.cli import main
run, *patterns = sys.argv[1:]
for pattern in patterns:
    sys.argv = ["mmcl", "predict", run, pattern, "--json"]
    try:
        main()
    except SystemExit:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def test_memory_does_not_grow_with_the_number_of_files(run, tmp_path):
    """Of 240 files that hold 100 MB no more is held than of the first 70 of them."""
    random = np.random.default_rng(0)
    for number in range(240):
        np.save(tmp_path / f"{number:03}.npy", random.normal(size=(1750, 20, 3)).astype(np.float32))
    command = [sys.executable, "-c", PEAK, str(run), f"{tmp_path}/0[0-6]?.npy", f"{tmp_path}/*.npy"]
    found = subprocess.run(command, capture_output=True, text=True, env=ALONE, check=True)
    few, every = (int(line) for line in found.stderr.splitlines() if line.isdigit())
    assert len(found.stdout.splitlines()) == 70 + 240
    assert every - few < 30
