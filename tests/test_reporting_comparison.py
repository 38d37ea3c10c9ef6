"""The report of a comparison: what differs, what of it may be chance, and what was chosen on the test set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.tests.reports import Page, page_of
from mmcl.trainer.reporting.report import write_comparison_report
from mmcl.trainer.run import CHOSEN_ON_TEST
from mmcl.trainer.testing.compare import Comparison, compare
from mmcl.trainer.testing.compare_files import write_comparison
from mmcl.trainer.testing.ensemble import ON_TEST, ensembles_of
from mmcl.trainer.testing.entries import Entry
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.paired import paired_line
from mmcl.trainer.testing.scores import About, Scores

CLASSES = tuple(f"class {label}" for label in range(7))


def entry(title: str, *, right: float, seed: int, classes: tuple[str, ...] = CLASSES) -> Entry:
    """A score file of 210 clips that has about a share of them right."""
    rng, labels = np.random.default_rng(seed), np.arange(210) % 7
    called = np.where(rng.random(210) < right, labels, rng.integers(0, 7, 210))
    values = np.eye(7, dtype=np.float32)[called] + rng.normal(scale=0.1, size=(210, 7)).astype(np.float32)
    scores = Scores(tuple(f"clip{row}" for row in range(210)), values, labels, classes)
    about, metrics = About("last epoch", "d", "xsub"), measure(values, labels)
    return Entry(title, about, path=Path(title), scores=scores, metrics=metrics, notes=("epoch: last",), run=None)


@pytest.fixture
def entries() -> tuple[Entry, ...]:
    rights = ("joint", 0.6), ("bone", 0.9), ("again", 0.6)
    return tuple(entry(title, right=right, seed=seed) for seed, (title, right) in enumerate(rights))


def report(found: Comparison) -> Page:
    return page_of(write_comparison_report(found))


def test_differences_come_with_their_verdict(entries, tmp_path):
    found = compare(entries, (), tmp_path / "out")
    page = report(found)
    for paired in found.paired:
        assert paired_line(paired) in page.text
    assert "more than chance" in page.text and "could be chance" in page.text
    for one in entries:
        low, high = one.metrics.top1_interval
        assert f"{one.metrics.top1:.2%} {100 * low:.1f} to {100 * high:.1f}" in page.text


def test_gains_are_side_by_side_the_largest_first(entries, tmp_path):
    found = compare(entries, (), tmp_path / "out")
    text = report(found).text.split("Points gained")[1].split("Confused pairs")[0]
    largest = sorted(zip(*found.gains, strict=True), key=lambda line: -max(abs(gain.gain) for gain in line))
    places = [text.index(line[0].name) for line in largest]
    assert places == sorted(places)
    assert f"{100 * largest[0][0].gain:+.1f}" in text and "bone" in text and "again" in text


@pytest.mark.parametrize(("asked", "said"), [(ON_TEST, ON_TEST), ("equal", "equal")])
def test_weights_fitted_on_the_test_set_are_red(entries, tmp_path, asked, said):
    members = ensembles_of(entries, asked, lambda _: pytest.fail("nothing is held out"))
    page = report(compare(entries, members, tmp_path / "out"))
    assert f"Weights: {said}" in page.text
    assert ("red" in page.values("class")) == ("warning" in page.values("class")) == (asked == ON_TEST)
    assert f"{members[0].metrics.top1:.2%}" in page.text


@pytest.mark.parametrize("words", [f"weights {ON_TEST}; last epoch", f"best epoch {CHOSEN_ON_TEST}"])
def test_a_score_file_keeps_the_alarm_of_what_was_chosen_on_the_test_set(entries, tmp_path, words):
    """In the page, the notes, the JSON and the heads of the tables; in an ensemble of it too."""
    loud = replace(entries[1], about=entries[1].about._replace(selection=words))
    members = ensembles_of([entries[0], loud], "equal", lambda _: pytest.fail("nothing is held out"))
    found = compare([entries[0], loud], members, tmp_path / "out")
    write_comparison(found, write_comparison_report)
    page = page_of(tmp_path / "out" / "report.html")
    assert any("ON THE TEST SET, so these numbers are too good: bone" in note for note in found.notes)
    assert page.values("class").count("small red") == 2 and "warning" in page.values("class")
    summary = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert summary["chosen_on_test"] and summary["ensembles"][0]["chosen_on_test"]
    assert summary["weights_fitted_on_test"] == (ON_TEST in words)
    assert [one["chosen_on_test"] for one in summary["entries"]] == [False, True]
    heads = (tmp_path / "out" / "gains.csv").read_text().splitlines()[0].split(",")
    assert heads[2] == "joint" and heads[3] == f"bone ({words})" and all("ON THE TEST SET" in one for one in heads[3:])


def test_what_others_wrote_stays_text(entries, tmp_path):
    """Titles of files, class names and notes add no element and no attribute."""
    evil = '"><script>alert(1)</script>'
    plain = report(compare(entries, (), tmp_path / "plain"))
    classes = tuple(f"{name}{evil}" for name in CLASSES)
    hostile = [replace(one, title=one.title + evil, scores=replace(one.scores, classes=classes)) for one in entries]
    page = report(compare([replace(one, notes=(evil,)) for one in hostile], (), tmp_path / "evil"))
    assert set(page.tags - plain.tags) <= {"li", "bdi"}  # a note's own line
    assert {name for _, name, _ in page.attributes} == {name for _, name, _ in plain.attributes}
    assert evil in page.text


def test_one_file_alone_has_a_report(entries, tmp_path):
    page = report(compare(entries[:1], (), tmp_path / "out"))
    assert "Is it a difference?" not in page.text and f"{entries[0].metrics.top1:.2%}" in page.text


def test_the_page_needs_nothing_but_itself(entries, tmp_path):
    page = report(compare(entries, ensembles_of(entries, "equal", lambda _: ([], "")), tmp_path / "out"))
    assert all(value.startswith(("#", "comparison.", "gains.csv", "ensemble-")) for value in page.values("href"))
    assert not page.values("src") and not page.tags["link"]
