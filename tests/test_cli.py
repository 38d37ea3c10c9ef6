"""The commands as a user types them: the whole way, and one clear line for what can't be done."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmcl.cli import main
from mmcl.pipeline.demo.tiny import build_tiny
from mmcl.tests.training import Watch

FAST = ("--set", "width=8", "--set", "window=16", "--set", "epochs=2", "--set", "batch=4", "--set", "warmup=0")


class Command:
    """Runs `mmcl ...` in this process and remembers what it printed."""

    def __init__(self, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.out = self.error = ""

    def __call__(self, *words: object) -> int:
        self._monkeypatch.setattr(sys, "argv", ["mmcl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.error = self._capsys.readouterr()
        return int(ended.value.code or 0)


@pytest.fixture
def mmcl(monkeypatch, capsys) -> Command:
    return Command(monkeypatch, capsys)


def test_the_whole_way_and_a_swap(mmcl, raw, models, tmp_path):
    """prepare, extract-features, train, evaluate without caches, and another LLM that opens no video."""
    data, run = tmp_path / "mine", tmp_path / "run"
    assert mmcl("prepare", "folder", raw, "--out", data) == 0
    assert "24 clips" in mmcl.out
    assert "split given" in mmcl.out
    extract = ("extract-features", data, "--videos", raw, "--person", "frame")
    assert mmcl(*extract, "--rgb", models / "tiny-resnet", "--llm", models / "tiny-blip-vqa") == 0
    assert "videos decoded: 24" in mmcl.out
    assert mmcl("train", data, "--split", "given", *FAST, "--out", run) == 0
    assert "FAM: tiny-resnet" in mmcl.out
    assert "FRM: tiny-blip-vqa" in mmcl.out
    (data / "rgb").rename(tmp_path / "rgb")
    (data / "text").rename(tmp_path / "text")
    assert mmcl("evaluate", run) == 0
    assert "top-1" in mmcl.out
    assert json.loads((run / "evaluation" / "results.json").read_text())["clips"] == 6
    (tmp_path / "rgb").rename(data / "rgb")
    (tmp_path / "text").rename(data / "text")
    assert mmcl("extract-features", data, "--llm", models / "tiny-llava") == 0
    assert "videos decoded: 0" in mmcl.out
    assert mmcl.out.count("reused as it was") == 1
    assert mmcl("train", data, *FAST, "--out", tmp_path / "second") == 2
    assert "--text: 2 caches fit; choose one by its key" in mmcl.error
    assert "tiny-blip-vqa, prompt holding-object" in mmcl.error
    assert mmcl("cache", "info", data) == 0
    assert mmcl("cache", "verify", data) == 0
    assert mmcl.out.count("every row is as it was written") == 4


def test_a_broken_video_is_a_listed_row_and_a_training_is_told(mmcl, data, raw, models, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for video in (raw / "videos").iterdir():
        (videos / video.name).symlink_to(video)
    broken = sorted(videos.iterdir())[0]
    broken.unlink()
    broken.write_text("this is no video\n" * 50)
    code = mmcl("extract-features", data, "--videos", videos, "--person", "frame", "--rgb", models / "tiny-resnet")
    assert code == 1
    assert f"failed: {broken.stem}: unreadable: not a video" in mmcl.out
    assert "1 clips failed and keep a row without features" in mmcl.out
    assert broken.stem in (data / "failures.csv").read_text()
    train = ("train", data, "--split", "given", "--text", "none", *FAST, "--out", tmp_path / "run")
    assert mmcl(*train) == 2
    assert broken.stem in mmcl.error
    assert mmcl(*train, "--allow-missing") == 0
    assert "1 clips without features train on the classification loss only" in mmcl.out
    assert mmcl("evaluate", tmp_path / "run") == 0
    assert "1 of 18 training clips had no features and were masked out" in mmcl.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prepare", "nw-ucla", "absent"), "absent: no such folder; give the folder or zip that holds NW-UCLA"),
        (("prepare", "ucla", "."), "no data set 'ucla': did you mean nw-ucla?"),
        (("extract-features", "absent", "--rgb", "none"), "absent/skeletons.h5: no skeleton cache here"),
        (("extract-features", "DATA", "--llm", "x/y", "--prompt", "holding"), "no prompt 'holding': did you mean"),
        (("extract-features", "DATA", "--rgb", "x/y"), "no person images are there yet; give --videos"),
        (("extract-features", "DATA", "--videos", "absent"), "absent: no such folder of videos"),
        (
            ("train", "DATA", "--rgb", "none", "--text", "none", "--set", "epoch=3"),
            "no such key 'epoch'; did you mean epochs?",
        ),
        (("train", "DATA", "--text", "none"), "no rgb cache; make one with `mmcl extract-features`, or say --rgb none"),
        (
            ("train", "DATA", "--rgb", "none", "--text", "none", "--split", "xview"),
            "no split 'xview'; it has given, xsub",
        ),
        (
            ("train", "DATA", "--rgb", "none", "--text", "none", "--config", "absent.toml"),
            "absent.toml: no such config",
        ),
        (("evaluate", "absent"), "absent: no run here"),
        (("cache", "info", "absent"), "absent: no such folder"),
    ],
    ids=lambda words: " ".join(words[:2]) if isinstance(words, tuple) else None,
)
def test_wrong_use_is_one_clear_line(mmcl, data, tmp_path, monkeypatch, words, said):
    """Exit code 2, what was found and what to do, no traceback, nothing written."""
    monkeypatch.chdir(tmp_path)
    before = sorted(data.rglob("*"))
    assert mmcl(*(data if word == "DATA" else word for word in words)) == 2
    assert said in mmcl.error
    assert mmcl.error.startswith("mmcl: ")
    assert "Traceback" not in mmcl.error
    assert sorted(data.rglob("*")) == before
    assert sorted(tmp_path.iterdir()) == [data]


def test_an_unknown_model_says_so_before_any_video_is_opened(mmcl, data, raw, tmp_path):
    model = tmp_path / "models" / "absent"
    assert mmcl("extract-features", data, "--videos", raw, "--person", "frame", "--rgb", model) == 2
    assert f"{model}: no such folder" in mmcl.error
    assert not (data / "person-images").exists()


def test_a_run_of_another_config_is_not_overwritten(mmcl, data, tmp_path):
    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, "--out", tmp_path / "run")
    assert mmcl(*train) == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert mmcl(*train) == 0
    assert mmcl(*train, "--set", "lr=0.05") == 2
    assert "holds another run; give another --out" in mmcl.error
    assert re.search(r"lr: there 0.1, asked 0.05", mmcl.error)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_full_disk_is_one_line_and_code_1(mmcl, data, raw, monkeypatch):
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mmcl.cache.table.h5py.File.create_dataset", full)
    monkeypatch.setattr("mmcl.cache.table.h5py.File.__setitem__", full)
    assert mmcl("extract-features", data, "--videos", raw, "--person", "frame") == 1
    assert "the disk is full; free some space and run the same command again" in mmcl.error
    assert not [path for path in data.rglob("*") if path.suffix in (".tmp", ".h5") and path.name != "skeletons.h5"]


def test_labels_and_names_are_shown_as_text(mmcl, tmp_path):
    """A class called [bold red] is a class, not a colour."""
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = ["name,label,skeleton,split"]
    for clip in range(8):
        np.save(raw / f"{clip}.npy", np.random.default_rng(clip).normal(size=(20, 20, 3)))
        lines.append(f"c{clip},[bold red]{clip % 2},{clip}.npy,{'train' if clip < 6 else 'test'}")
    (raw / "samples.csv").write_text("\n".join(lines))
    assert mmcl("prepare", "folder", raw, "--out", tmp_path / "data") == 0
    train = ("train", tmp_path / "data", "--rgb", "none", "--text", "none", *FAST, "--set", "batch=2")
    assert mmcl(*train, "--out", tmp_path / "run") == 0
    assert mmcl("evaluate", tmp_path / "run") == 0
    assert "[bold red]0" in mmcl.out


def test_a_name_cannot_steer_the_terminal(mmcl, raw, tmp_path):
    out = tmp_path / "x[/b]\x1b[31m"
    assert mmcl("prepare", "folder", raw, "--out", out) == 0
    assert "x[/b]" in mmcl.out
    assert "\x1b" not in mmcl.out


def test_ones_own_data_does_not_take_a_published_name(mmcl, raw, tmp_path):
    assert mmcl("prepare", "folder", raw, "--out", tmp_path / "utd-mhad") == 2
    assert "utd-mhad is a published data set; give your own another --out" in mmcl.error


def test_selection_on_the_test_set_is_said_in_every_output(mmcl, data, tmp_path):
    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, "--select-on-test", "--out", tmp_path / "run")
    assert mmcl(*train) == 0
    assert "CHOSEN ON THE TEST SET" in mmcl.out
    assert mmcl("evaluate", tmp_path / "run") == 0
    assert "CHOSEN ON THE TEST SET" in mmcl.out
    assert json.loads((tmp_path / "run" / "evaluation" / "results.json").read_text())["select_on_test"] is True


def test_confusion_picture_is_a_picture(mmcl, data, tmp_path):
    mmcl("train", data, "--rgb", "none", "--text", "none", *FAST, "--out", tmp_path / "run")
    assert mmcl("evaluate", tmp_path / "run") == 0
    assert cv2.imread(str(tmp_path / "run" / "evaluation" / "confusion.png")).std() > 1


def test_moved_models_keep_their_key(mmcl, data, raw, models, tmp_path):
    extract = ("extract-features", data, "--videos", raw, "--person", "frame", "--rgb")
    assert mmcl(*extract, models / "tiny-resnet") == 0
    elsewhere = build_tiny("tiny-resnet", tmp_path / "elsewhere")
    assert mmcl(*extract, elsewhere) == 0
    assert len(list((data / "rgb").iterdir())) == 1


def test_a_folder_of_other_things_is_no_place_for_a_run(mmcl, data, tmp_path):
    (tmp_path / "run").write_text("a file")
    assert mmcl("train", data, "--rgb", "none", "--text", "none", *FAST, "--out", tmp_path / "run") == 2
    assert "Traceback" not in mmcl.error


def test_the_plan_says_what_decides_the_training(mmcl, data, tmp_path):
    """The rate as it is scaled, its schedule, the precision, and what it computes on."""
    settings = ("--set", "lr_batch=8", "--set", "schedule=cosine", "--set", "clip_grad=1", "--set", "precision=bf16")
    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, *settings, "--out", tmp_path / "run")
    assert mmcl(*train) == 0
    assert (
        "lr 0.05 (lr 0.1 for a batch of 8, scaled to 4), warm-up 0, cosine to 0, gradients clipped to 1; bf16"
        in mmcl.out
    )
    assert re.search(r"1 process on \w+\n", mmcl.out)
    assert mmcl("evaluate", tmp_path / "run") == 0
    assert "options: width 8 (default 64), schedule cosine (default step), clip_grad 1.0 (default 0.0)" in mmcl.out


def test_a_run_starts_from_anothers_weights(mmcl, data, tmp_path):
    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, "--set", "lr=0.001", "--set", "epochs=1")
    assert mmcl(*train, "--out", tmp_path / "first") == 0
    assert mmcl(*train, "--init", tmp_path / "first", "--out", tmp_path / "second") == 0
    assert str(tmp_path / "first") in mmcl.out
    assert json.loads((tmp_path / "second" / "run.json").read_text())["start"]["backbone_only"] is False
    assert mmcl("evaluate", tmp_path / "second") == 0
    assert str(tmp_path / "first") in mmcl.out


def test_several_prompts_teach_together(mmcl, data, raw, models, tmp_path):
    """--prompt, repeated, takes the text features of all of them."""
    extract = ("extract-features", data, "--videos", raw, "--person", "frame", "--llm", models / "tiny-blip-vqa")
    asked = ("--prompt", "holding-object", "--prompt", "touching-head")
    assert mmcl(*extract, *asked) == 0
    train = ("train", data, "--rgb", "none", *FAST, "--set", "epochs=1", "--out", tmp_path / "run")
    assert mmcl(*train) == 2 and "--text: 2 caches fit" in mmcl.error
    assert mmcl(*train, *asked) == 0
    assert re.search(r"FRM: tiny-blip-vqa holding-object \(\w+\), tiny-blip-vqa touching-head \(\w+\)", mmcl.out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_is_stopped_says_how_to_go_on_and_goes_on(mmcl, data, tmp_path, monkeypatch, number, code):
    @contextmanager
    def watched(*_):
        yield Watch(lambda done, total: os.kill(os.getpid(), number) if done == 2 else None)

    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, "--out", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("mmcl.trainer.report.watched", watched)
        assert mmcl(*train) == code
    assert mmcl.error.endswith("mmcl: stopped, and what was trained is kept; run the same command again, it goes on\n")
    assert re.search(rf"step \d of epoch 1 is kept in {tmp_path / 'run'}\n", mmcl.out)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert mmcl(*train) == 0
    assert "kept epoch 2 (last epoch)" in mmcl.out


def test_an_unknown_tracker_is_refused_before_the_training(mmcl, data, tmp_path):
    train = ("train", data, "--rgb", "none", "--text", "none", *FAST, "--out", tmp_path / "run")
    assert mmcl(*train, "--track", "tensorbord") == 2
    assert "--track tensorbord: known are tensorboard, wandb" in mmcl.error
    assert not (tmp_path / "run").exists()


def test_default_out_is_under_the_working_folder(mmcl, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mmcl("train", data, "--rgb", "none", "--text", "none", *FAST) == 0
    assert (Path("runs") / "acted-given-joint" / "model.safetensors").exists()
