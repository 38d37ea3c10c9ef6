"""The report in a real browser, offline: its own script runs under its policy, and says nothing on the console."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmcl.tests.reports import Page, evaluation, teach
from mmcl.trainer.reporting.report import write_run_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)")
def test_the_script_runs_under_the_policy(data, skeletons, tmp_path):
    """It sorts the matrix, shows its controls, and moves the skeletons, with nothing refused and no error."""
    teach(data)
    path = write_run_report(evaluation(data, tmp_path / "run"), skeletons, tmp_path / "run")
    browser = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command = [*browser, "--virtual-time-budget=600", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    before, after = Page(Path(path).read_text()), Page(done.stdout)
    order = before.data["matrix"]["orders"]["most confused side by side"]
    names = [before.data["matrix"]["names"][label] for label in order]
    assert [*re.findall(r'title="([^"]*)"', done.stdout.split('class="true"')[1])][: len(names)] == names
    assert before.values("hidden") and not after.values("hidden")
    assert after.values("aria-pressed") == ["true"] * after.tags["article"]
