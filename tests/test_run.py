"""run.json as it is read again: runs of older versions, and what is no run though it is JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmcl.tests.training import TINY, planned
from mmcl.trainer.loop.start import Start
from mmcl.trainer.run import Run, read_run, write_run

START = Start("/other/model.safetensors", "abc", True, 3, 9, ("classifier",)).as_dict()
CACHE = {"key": "k", "dataset": "acted", "settings": {"model": "m"}}


@pytest.fixture
def run(prepared: Path) -> Run:
    return planned(prepared, TINY, rgb="none", text="none").run


def described(folder: Path, run: Run, **entries: Any) -> Path:
    """A run's folder with other entries in its run.json; those that are `...` are taken out."""
    folder.mkdir(exist_ok=True)
    write_run(folder, run)
    found = json.loads((folder / "run.json").read_text()) | entries
    kept = {name: value for name, value in found.items() if value is not ...}
    (folder / "run.json").write_text(json.dumps(kept))
    return folder


def test_a_run_is_read_as_it_was_written(run: Run, tmp_path: Path):
    assert read_run(described(tmp_path, run)) == run
    assert read_run(described(tmp_path, run, start=START)).start == START


@pytest.mark.parametrize("text", [None, CACHE, [CACHE], [CACHE, CACHE]])
def test_a_run_of_an_older_version_is_read(run: Run, tmp_path: Path, text: Any):
    """Without coordinates, held-out subjects, a start and costs, and with one text cache or null."""
    absent = dict.fromkeys(("coordinates", "held_out_subjects", "start", "costs"), ...)
    found = read_run(described(tmp_path, run, text=text, rgb=CACHE, **absent))
    assert found.coordinates == "metres" and found.held_out_subjects == () and not found.costs
    assert found.text == (() if text is None else tuple(text) if isinstance(text, list) else (text,))


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ({"config": []}, "config is a list; wanted a mapping"),
        ({"config": {"lr": -1}}, "lr = -1.0: must be above 0"),
        ({"config": {"strem": "joint"}}, "no such key 'strem'; did you mean stream?"),
        ({"dataset": 7}, "dataset is a int; wanted text"),
        ({"data": None}, "data is a NoneType; wanted text"),
        ({"slots": 0}, "slots = 0; wanted 1 or more"),
        ({"slots": True}, "slots is a bool; wanted an integer"),
        ({"slots": 1.5}, "slots is a float; wanted an integer"),
        ({"train_clips": "9"}, "train_clips is a str; wanted an integer"),
        ({"held_out_clips": -1}, "held_out_clips = -1; wanted 0 or more"),
        ({"body_rule": "none"}, "body_rule = 'none'; allowed are zero, repeat"),
        ({"coordinates": ["metres"]}, r"coordinates = \['metres'\]; allowed are metres, image"),
        ({"classes": "abc"}, "classes is a str; wanted a list"),
        ({"classes": []}, "classes: wanted one or more names, none empty, none twice"),
        ({"classes": ["a", ""]}, "classes: wanted one or more names"),
        ({"classes": ["a", "b", "a"]}, "classes: wanted one or more names"),
        ({"classes": ["a", None]}, r"classes\[1\] is a NoneType; wanted text"),
        ({"held_out_subjects": ["3"]}, r"held_out_subjects\[0\] is a str; wanted an integer"),
        ({"missing": {"rgb": {}}}, "missing rgb is a dict; wanted a list"),
        ({"versions": {"torch": {}}}, r"versions\[0\] is a dict; wanted text"),
        ({"rgb": {}}, "'key'"),
        ({"rgb": {**CACHE, "key": 3}}, "cache key is a int; wanted text"),
        ({"rgb": "k"}, "cache is a str; wanted a mapping"),
        ({"text": [{"key": "k", "dataset": "d"}]}, "'settings'"),
        ({"text": [CACHE | {"settings": []}]}, "cache settings is a list; wanted a mapping"),
        ({"text": 7}, "text is a int; wanted a list"),
        ({"start": {}}, "missing 5 required positional arguments"),
        ({"start": START | {"loaded": None}}, "start loaded is a NoneType; wanted an integer"),
        ({"start": START | {"other": 1}}, "unexpected keyword argument 'other'"),
        ({"layout": {"name": "n"}}, "'joints'"),
        ({"classes": ...}, "'classes'"),
        ({"surprise": 1}, "unexpected keyword argument 'surprise'"),
    ],
)
def test_what_is_no_run_is_one_error_that_names_the_file(
    run: Run, tmp_path: Path, entries: dict[str, Any], wanted: str
):
    with pytest.raises(ValueError, match=rf"^[^\n]*run\.json: not a run \([^\n]*{wanted}[^\n]*\)$"):
        read_run(described(tmp_path, run, **entries))


@pytest.mark.parametrize("content", ["", "[]", "7", "null", '"run"', "{", "[" * 100_000, "1" * 5_000, "\x00"])
def test_a_file_that_is_no_run_at_all_is_named(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run\.json: not a run \("):
        read_run(tmp_path)
