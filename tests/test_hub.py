"""The hub: what is seen while it works, and what happens where it cannot be reached."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from mmcl.pipeline.encoders import checkpoint
from mmcl.pipeline.encoders.checkpoint import find_checkpoint, quiet


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty hub cache on a machine without a network; returns the cache."""

    def fail():
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(checkpoint, "get_session", fail)
    return tmp_path


def test_a_hub_that_does_not_answer_is_asked_once(unreachable: Path, monkeypatch: pytest.MonkeyPatch):
    """Its own client would try for half a minute."""
    asked, cached_file = [], checkpoint.cached_file
    monkeypatch.setattr(checkpoint, "cached_file", lambda *_, **said: asked.append(said) or cached_file(*_, **said))
    with pytest.raises(
        ValueError, match=r"co does not answer \(Name or service not known\). Check the spelling and the"
    ):
        find_checkpoint("nobody/nothing")
    assert asked == [{"local_files_only": True}]


def test_a_downloaded_model_is_used_without_asking_a_hub_that_does_not_answer(unreachable: Path):
    commit = "0123456789abcdef" * 2 + "01234567"
    folder = unreachable / "models--someone--model"
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "snapshots" / commit / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    found = find_checkpoint("someone/model")
    assert found.pinned == {"trust_remote_code": False, "revision": commit, "local_files_only": True}


def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path):
    said = {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "configuration.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    (tmp_path / "configuration.py").write_text("raise SystemExit('executed')")
    with pytest.raises(ValueError, match="needs code from its own repository, which is never run; look for a copy"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize("said", ["{", "[]", '{"model_type": "blip", "vision_config": 3}', '{"model_type": ["blip"]}'])
def test_a_config_that_makes_no_sense_is_refused(tmp_path: Path, said: str):
    (tmp_path / "config.json").write_text(said)
    with pytest.raises(ValueError, match="not a transformers checkpoint: "):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize(("terminal", "seen"), [(True, True), (False, False)])
def test_downloads_are_seen_on_a_terminal_and_nowhere_else(terminal: bool, seen: bool, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with quiet():
        assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == (False, True)
        with quiet(downloads=True):
            assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == (seen, not seen)
        assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == (False, True)
    assert (logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == (True, False)


def test_log_lines_come_back_when_the_last_thread_is_done():
    before, inside, leave = logging.get_verbosity(), threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert inside.wait(10)
    assert logging.get_verbosity() == logging.ERROR != before
    leave.set()
    thread.join()
    assert logging.get_verbosity() == before
