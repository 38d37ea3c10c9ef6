"""The report of a run: all of it in one file, nothing in it that anybody else wrote is taken for HTML."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import TEST, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.tests.reports import Page, evaluation, page_of, renamed, teach
from mmcl.tests.training import TINY, features
from mmcl.trainer.config import make_config, parse_setting, shipped_config
from mmcl.trainer.inference.predictor import softmax
from mmcl.trainer.reporting.charts import charts_of, read_metrics
from mmcl.trainer.reporting.commands import commands_of, config_words
from mmcl.trainer.reporting.matrix import TOGETHER, matrix_of
from mmcl.trainer.reporting.mistakes import FIELD, FRAMES, NOWHERE, pose_of
from mmcl.trainer.reporting.report import write_run_report
from mmcl.trainer.testing.evaluate import WITH_TEXT, Evaluation
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.scores import Scores
from mmcl.trainer.testing.speed import Speed
from mmcl.trainer.testing.training_cost import TeacherCost

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "wave\N{RIGHT-TO-LEFT OVERRIDE}\x00\x1b[31m",
)
METRICS = "epoch,lr,loss,classify,align,refine,train_top1,held_out_top1,seconds,kept\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def report(found: Evaluation, skeletons: Skeletons, run: Path, **given: Speed | Path | None) -> Page:
    return page_of(write_run_report(found, skeletons, run, **given))


def test_the_page_needs_nothing_but_itself(data, skeletons, run):
    """Every address is a place in the page, a file that lies beside it, or a picture inside it."""
    teach(data)
    (run / "evaluation").mkdir(parents=True)
    (run / "evaluation" / "results.json").write_text("{}")
    page = report(evaluation(data, run), skeletons, run)
    beside = {value for value in page.values("href") if not value.startswith("#")}
    assert beside == {"results.json", "../run.json"}
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    assert not page.tags["link"] and not page.tags["iframe"] and not page.tags["object"]
    assert "url(" not in page.parts["style"][0] and "@import" not in page.parts["style"][0]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.source)


def test_the_policy_lets_our_own_style_and_script_run_and_no_other(data, skeletons, run):
    page = report(evaluation(data, run), skeletons, run)
    [policy] = [value for value in page.values("content") if "default-src" in value]
    for kind, content in (("style", page.parts["style"][0]), ("script", page.parts["script"][1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    others = re.sub(r"(style|script)-src '[^']*'; ", "", policy)
    assert others == "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"
    assert not page.values("style") and not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_what_others_wrote_stays_text(data, run):
    """Names of classes, clips and data sets, an LLM's answers and a path add no element and no attribute."""
    harmless = renamed(data, classes=tuple("abcdef"), suffix="")
    teach(data, answer="yes")
    plain = report(evaluation(data, run), harmless, run)
    for kind in ("text", "person-images"):
        (data / kind).rename(data / f"{kind}-before")
    skeletons = renamed(data, classes=HOSTILE, suffix="</title><b>")
    teach(data, answer=HOSTILE[0])
    found = evaluation(data, run, versions={HOSTILE[1]: HOSTILE[0]})
    page = report(replace(found, notes=[*found.notes, *HOSTILE]), skeletons, run)
    extra = page.tags - plain.tags
    assert set(extra) <= {"li", "bdi"}, extra  # the notes' own lines
    assert {name for _, name, _ in page.attributes} == {name for _, name, _ in plain.attributes}
    assert len(page.parts["script"]) == 2
    assert page.data["matrix"]["names"][:5] == list(HOSTILE[:5])
    assert all(word in page.text for word in ("<script>alert(1)</script>", "{{ 7 * 7 }}", "</title><b>"))
    assert not re.search("[\x00\x1b\N{RIGHT-TO-LEFT OVERRIDE}]", page.source)


def test_the_headline_has_intervals_and_what_guessing_would_give(data, skeletons, run):
    found = evaluation(data, run)
    page, metrics = report(found, skeletons, run), found.metrics
    low, high = metrics.top1_interval
    assert f"95%: {low:.1%} to {high:.1%}" in page.text
    assert f"the largest class would be right for {metrics.chance:.1%}" in page.text
    assert "skeletons only" in page.text


def test_top5_of_five_classes_is_not_shown(data, skeletons, run):
    found = evaluation(data, run)
    classes = found.run.classes[:5]
    scores = Scores(found.scores.names, found.scores.values[:, :5], found.scores.labels % 5, classes)
    few = replace(found, run=replace(found.run, classes=classes), scores=scores)
    few = replace(few, metrics=measure(scores.values, scores.labels))
    assert "top-5" in report(found, skeletons, run).text
    assert "top-5" not in report(few, skeletons, run).text


@pytest.mark.parametrize("chosen", [True, False])
def test_what_was_chosen_on_the_test_set_is_said_in_red(data, skeletons, run, chosen):
    page = report(evaluation(data, run, replace(TINY, select_on_test=chosen)), skeletons, run)
    assert ("warning" in page.values("class")) == chosen
    assert ("CHOSEN ON THE TEST SET" in page.text) == chosen


def test_a_leak_is_said_in_red(data, skeletons, run):
    found = evaluation(data, run)
    leak = replace(found, notes=["LEAK: 3 of 12 test clips have the very joints of a training clip"])
    page = report(leak, skeletons, run)
    assert "warning" in page.values("class") and "LEAK: 3 of 12" in page.text


def test_scores_with_the_llm_are_not_called_skeleton_only(data, skeletons, run):
    page = report(replace(evaluation(data, run), inputs=WITH_TEXT), skeletons, run)
    assert "NOT skeleton-only" in page.text and "badge alarm" in page.values("class")
    assert "--with-text" in page.text and "skeletons only" not in page.text


def test_the_mistakes_are_the_most_confident_ones(data, skeletons, run):
    found = evaluation(data, run, seed=3)
    scores = found.scores
    called, sure = scores.values.argmax(1), softmax(scores.values).max(1)
    wrong = sorted(np.flatnonzero(called != scores.labels), key=lambda row: -sure[row])
    assert len(wrong) > 1
    text = report(found, skeletons, run).text.split("The most confident mistakes")[1]
    places = [text.index(f" {scores.names[row]} ") for row in wrong[:8]]
    assert places == sorted(places)
    assert f"called {scores.classes[called[wrong[0]]]} {sure[wrong[0]]:.1%}" in text
    assert f"of {len(wrong)} clips" in text


def test_a_skeleton_is_a_few_whole_numbers():
    """Long clips are thinned, absent joints are nowhere, and one joint far off does not shrink the others."""
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(2 * 200, 25, 3)).astype(np.float32)
    joints[:, 3], joints[7, 4] = 0, np.nan
    joints[11, 5] = 1e6
    one = Ragged.of([joints])
    splits = {"xsub": Split(np.array([TEST], np.int8))}
    clip = Skeletons("d", ("a",), KINECT_V2, ("c",), np.array([0]), np.array([2]), one, splits)
    pose = pose_of(clip, 0)
    places = np.array(pose.frames).reshape(-1, 2, 25, 2)
    assert len(places) == FRAMES and pose.length == 200
    assert (places[:, :, 3] == NOWHERE).all()
    seen = places[places[..., 0] != NOWHERE]
    assert seen.min() >= 0 and seen.max() <= FIELD and np.ptp(seen) > FIELD / 2


def test_without_mistakes_the_page_says_so(data, skeletons, run):
    found = evaluation(data, run)
    right = replace(found.scores, values=np.eye(6, dtype=np.float32)[found.scores.labels])
    page = report(replace(found, scores=right, metrics=measure(right.values, right.labels)), skeletons, run)
    assert "every clip was called right" in page.text and "Nothing was confused" in page.text
    assert page.data["mistakes"] is None


def test_curves_come_from_metrics_csv(tmp_path):
    """-1 stands for no held-out clips; the rate's falls are marked; without teachers there is one loss."""
    lines = [
        f"{e},{0.1 if e < 3 else 0.01},{1 / e},{1 / e},0.0,0.0,{0.2 * e},-1.0,1.0,last epoch" for e in (1, 2, 3, 4)
    ]
    (tmp_path / "metrics.csv").write_text(METRICS + "\n".join(lines))
    loss, top1 = charts_of(read_metrics(tmp_path / "metrics.csv"), 4.0, "held-out clips")
    assert loss.title == "classification loss" and [line.name for line in top1.lines] == ["training clips"]
    assert [fall.text for fall in loss.falls] == ["lr 0.01"] and "from 1 to 0.25" in loss.said


@pytest.mark.parametrize("content", [None, b"\x00\xff not a table", METRICS.encode(), b"epoch\nnan\ntwo\n"])
def test_without_metrics_the_page_says_so(data, skeletons, run, content):
    found = evaluation(data, run)
    if content is not None:
        (run / "metrics.csv").write_bytes(content)
    assert "No curves" in report(found, skeletons, run).text


def test_metrics_that_are_no_numbers_leave_gaps(data, skeletons, run):
    found = evaluation(data, run)
    (run / "metrics.csv").write_text(METRICS + "1,0.1,nan,inf,x,,0.5,-1.0,1.0,last\n2,0.1,1,1,0,0,0.75,0.5,1,last\n")
    assert "top-1 over 2 epochs" in " ".join(report(found, skeletons, run).values("aria-label"))


@pytest.mark.parametrize("absurd", ["1e300", "-1e300", "1e18", "1e999", "9" * 400])
@pytest.mark.parametrize("column", range(9))
def test_metrics_beyond_anything_that_can_be_drawn_leave_gaps(tmp_path, absurd, column):
    """A file that was edited, or a loss that went to the sky, still gives charts of what is left."""
    lines = [[str(e), "0.1", "0.9", "0.8", "0.1", "0.2", "0.5", "0.5", "1"] for e in (1, 2, 3)]
    lines[1][column] = absurd
    (tmp_path / "metrics.csv").write_text(METRICS + "\n".join(",".join((*line, "last")) for line in lines) + "\n")
    found = charts_of(read_metrics(tmp_path / "metrics.csv"), 3.0, "held-out clips")
    assert len(found) == 5 and all(len(chart.up) < 9 and len(chart.across) < 9 for chart in found)
    assert not re.search(r"\de\+|inf|nan", " ".join(f"{chart.said} {chart.lines}" for chart in found))


def test_a_matrix_of_120_classes_is_a_small_page(run, data):
    """50,919 clips in 120 classes, three of four called right: every count is there, and the page is under 5 MB."""
    found, rng = evaluation(data, run), np.random.default_rng(0)
    count, classes = 50_919, tuple(f"class {label} of the data set" for label in range(120))
    labels = rng.integers(0, 120, count)
    called = np.where(rng.random(count) < 0.75, labels, rng.integers(0, 120, count))
    values = (np.arange(120)[None] == called[:, None]).astype(np.float32)
    names = tuple(f"S{row:05}" for row in range(count))
    wrong = np.flatnonzero(called != labels)[:20]
    clips = Skeletons(
        *("acted", classes, KINECT_V2, tuple(names[row] for row in wrong), labels[wrong], np.full(20, 2)),
        Ragged.of([rng.normal(size=(600, 25, 3)).astype(np.float32)] * 20),
        {"xsub": Split(np.full(20, TEST, np.int8))},
    )
    big = replace(found, run=replace(found.run, classes=classes), scores=Scores(names, values, labels, classes))
    path = write_run_report(replace(big, metrics=measure(values, labels)), clips, run)
    page = page_of(path)
    cells = np.array(page.data["matrix"]["cells"]).reshape(-1, 4)
    assert cells[:, 2].sum() == count
    assert path.stat().st_size < 5e6
    assert page.source.count("class 77 of the data set") > 2  # on both sides of the matrix, and in the table


def test_confused_classes_stand_side_by_side():
    """The order of a matrix puts those together that are taken for one another, whatever their labels."""
    confusion = 20 * np.eye(8, dtype=np.int64)
    for one, other in ((0, 5), (2, 7), (1, 6)):
        confusion[one, other] = confusion[other, one] = 9
    matrix = matrix_of(confusion, tuple("abcdefgh"))
    order = list(matrix.orders[TOGETHER])
    assert sorted(order) == list(range(8))
    assert all(abs(order.index(one) - order.index(other)) == 1 for one, other in ((0, 5), (2, 7), (1, 6)))
    assert sum(cell.clips for cell in matrix.cells) == confusion.sum()


def test_the_command_gives_the_same_config(data, run):
    """What differs from the shipped config is on the line, quoted for a shell."""
    config = replace(
        TINY, validation="0.25", allow_missing=True, rotation=(1.0, 2.5, 0.0), refine_features=("answer_ids",)
    )
    found = evaluation(data, run, config, data="/data/it's here; rm -rf").run
    words = config_words(found)
    assert words[words.index("--validation") + 1] == "0.25" and "--allow-missing" in words
    settings = [parse_setting(words[at + 1]) for at, word in enumerate(words) if word == "--set"]
    told = {"split": "xsub", "stream": "joint", "validation": "0.25", "allow_missing": True}
    clips = {"xsub": found.train_clips + found.held_out_clips}
    assert make_config(shipped_config("acted", "metres"), [*settings, told], clips) == config
    lines = [shlex.split(command.line) for command in commands_of(found, run, Path(found.data))]
    assert [line[1] for line in lines] == ["prepare", "train", "evaluate"]
    assert lines[1][2] == found.data


def test_the_commands_name_the_caches(data, run):
    features(data)
    found = evaluation(data, run)
    extract, train = [command.line for command in commands_of(found.run, run, data)][1:3]
    assert "--rgb net --llm llm" in extract
    assert f"--rgb {found.run.rgb['key']} --text {found.run.text[0]['key']}" in train


def test_the_cost_is_shown_where_it_was_measured(data, skeletons, run):
    found = evaluation(data, run)
    teacher = TeacherCost("text", "llm, prompt holding", 7_000_000_000)
    speed = Speed(1_234_567, 2_500_000_000, 0.0125, 321.0, 16, "on this machine", "the proof", (teacher,), 99, 60.0)
    measured, unmeasured = (report(found, skeletons, run, speed=given).text for given in (speed, None))
    assert (
        "2.5 G" in measured and "12.5 ms" in measured and "on this machine" in measured and "7,000,000,000" in measured
    )
    assert "not measured" in unmeasured and "--speed" in unmeasured and "12,345" in unmeasured


def test_nothing_but_the_report_is_written(data, skeletons, run):
    """Whole or not at all: an old report stays where the new one can't be made."""
    found = evaluation(data, run)
    before = {path for path in run.rglob("*") if path.is_file()}
    path = write_run_report(found, skeletons, run)
    assert {file for file in run.rglob("*") if file.is_file()} - before == {path}
    old = path.read_bytes()
    with pytest.raises(AttributeError):
        write_run_report(replace(found, notes=[None]), skeletons, run)
    assert path.read_bytes() == old and len(list(path.parent.iterdir())) == 1
