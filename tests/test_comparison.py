"""`mmcl evaluate` with several entries: runs, matrices and score files side by side, ensembles, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcl.cache.skeletons import TRAIN, read_skeletons
from mmcl.cli import main
from mmcl.tests.scored import entry_of, scores_of, write_npz, write_pickle
from mmcl.tests.training import TINY, metrics, trained
from mmcl.trainer.loop.start import Start
from mmcl.trainer.run import read_run
from mmcl.trainer.testing.asked import asked_for
from mmcl.trainer.testing.compare import Comparison, compare
from mmcl.trainer.testing.compare_files import refuse_foreign, write_comparison
from mmcl.trainer.testing.ensemble import ensembles_of
from mmcl.trainer.testing.entries import entries_of
from mmcl.trainer.testing.evaluate import evaluate
from mmcl.trainer.testing.fitting import held_out_scores
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.paired import mcnemar
from mmcl.trainer.testing.scores import About, Scores, read_npz, read_scores, write_scores

SMALL = replace(TINY, epochs=1, warmup=0, milestones=(), validation="1")
Mmcl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mmcl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mmcl:
    """Runs `mmcl evaluate ...` in this process; gives the exit code, what was printed, and the error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmcl", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def made(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data and `matrix`: two streams, two seeds, subject 1 held out. Not to be changed."""
    folder = tmp_path_factory.mktemp("compared")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    for stream in ("joint", "bone"):
        for seed in (1, 2):
            trained(data, folder / "matrix" / stream / f"seed{seed}", replace(SMALL, stream=stream, seed=seed))
    return folder


@pytest.fixture
def matrix(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "matrix", tmp_path / "matrix"))


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


def test_a_matrix_stands_for_its_finished_runs_and_those_that_are_not_are_named(mmcl: Mmcl, matrix: Path):
    (matrix / "bone" / "seed2" / "model.safetensors").unlink()
    planned = [{"run": f"{stream}/seed{seed}"} for stream in ("joint", "bone", "joint-motion") for seed in (1, 2)]
    (matrix / "matrix.json").write_text(json.dumps({"cells": planned}))
    code, out, _ = mmcl(matrix)
    assert code == 0
    left_out = "left out, as their training has not finished: bone/seed2, joint-motion/seed1, joint-motion/seed2"
    assert out.count(left_out) == 2  # before the first test, and beside the result
    found = summary(matrix / "evaluation")
    assert [entry["title"] for entry in found["entries"]] == ["joint/seed1", "joint/seed2", "bone/seed1"]
    assert left_out in found["notes"]
    for run in ("joint/seed1", "joint/seed2", "bone/seed1"):
        assert (matrix / run / "evaluation" / "results.json").exists()
    assert (matrix / "evaluation" / "report.html").exists()


def test_a_folder_of_runs_stands_for_all_below_it_and_its_comparison_for_none(mmcl: Mmcl, matrix: Path, tmp_path: Path):
    """`mmcl evaluate runs`, and then `runs/*`, in which the first one's comparison lies."""
    runs = tmp_path / "runs"
    for name, run in (("one", matrix / "joint" / "seed1"), ("deep/two", matrix / "bone" / "seed1")):
        shutil.copytree(run, runs / name)
    assert mmcl(runs)[0] == 0
    assert [entry["title"] for entry in summary(runs / "evaluation")["entries"]] == ["deep/two", "one"]
    code, out, _ = mmcl(*sorted(runs.iterdir()))
    assert code == 0 and f"left out: {runs / 'evaluation'}, which is a comparison" in out
    code, _, said = mmcl(runs / "evaluation")
    assert code == 2 and "which is a comparison that was written there; give a run" in said


def test_runs_side_by_side_are_paired_by_clip_with_the_first(mmcl: Mmcl, matrix: Path, tmp_path: Path):
    """The files agree with each other, and with the scores of the runs."""
    runs = [matrix / "joint" / "seed1", matrix / "bone" / "seed1", matrix / "joint" / "seed2"]
    code, out, _ = mmcl(*runs, "--out", tmp_path / "side")
    assert code == 0
    scores = [read_scores(run / "evaluation") for run in runs]
    hits = [one.values.argmax(1) == one.labels for one in scores]
    found, lines = summary(tmp_path / "side"), lines_of(tmp_path / "side" / "comparison.csv")
    titles = ["joint/seed1", "bone/seed1", "joint/seed2"]
    assert [entry["title"] for entry in found["entries"]] == [line["title"] for line in lines] == titles
    for entry, line, hit in zip(found["entries"], lines, hits, strict=True):
        assert entry["top1"] == float(line["top1"]) == pytest.approx(hit.mean())
        assert entry["top1_interval"] == [float(line["top1_low"]), float(line["top1_high"])]
        assert line["kept"] == entry["selection"] == "best epoch on held-out 1"
    for against, line, hit in zip(found["against_first"], lines[1:], hits[1:], strict=True):
        wanted = mcnemar(hits[0], hit)
        assert (against["only_first"], against["only_second"]) == (wanted.only_first, wanted.only_second)
        assert float(line["mcnemar_p"]) == against["p_value"] == pytest.approx(wanted.p_value)
        assert float(line["difference"]) == pytest.approx(hit.mean() - hits[0].mean())
    assert f"bone/seed1 minus joint/seed1: {100 * (hits[1].mean() - hits[0].mean()):+.1f} points [" in out
    [group] = found["seeds"]
    assert group["titles"] == ["joint/seed1", "joint/seed2"]
    assert group["top1"]["mean"] == pytest.approx((hits[0].mean() + hits[2].mean()) / 2)
    assert group["top1"]["deviation"] == pytest.approx(np.std([hits[0].mean(), hits[2].mean()], ddof=1))
    gains = lines_of(tmp_path / "side" / "gains.csv")
    for label, line in enumerate(gains):
        of_class = [hit[scores[0].labels == label].mean() for hit in hits]
        assert float(line["bone/seed1"]) == pytest.approx(of_class[1], abs=1e-4)
        assert float(line["bone/seed1 minus joint/seed1"]) == pytest.approx(of_class[1] - of_class[0], abs=1e-4)
    assert not list((tmp_path / "side").glob("*.tmp"))


def test_an_ensemble_a_seed_is_written_where_it_can_be_an_entry_again(mmcl: Mmcl, matrix: Path):
    code, out, _ = mmcl(matrix, "--ensemble", "0.5,2")
    assert code == 0 and "ensembles, weights given on the command line" in out
    found = summary(matrix / "evaluation")
    assert [ensemble["seed"] for ensemble in found["ensembles"]] == [1, 2]
    for seed, ensemble in zip((1, 2), found["ensembles"], strict=True):
        joint, bone = (read_scores(matrix / stream / f"seed{seed}" / "evaluation") for stream in ("joint", "bone"))
        scores = read_scores((matrix / "evaluation" / ensemble["scores"]).parent)
        np.testing.assert_allclose(scores.values, 0.5 * joint.values + 2 * bone.values, rtol=1e-5, atol=1e-6)
        assert ensemble["top1"] == pytest.approx((scores.values.argmax(1) == scores.labels).mean())
        assert ensemble["weights"] == [0.5, 2] and len(ensemble["members_top1"]) == 2
    over = [group for group in found["seeds"] if group["name"].startswith("ensemble")]
    assert over[0]["top1"]["n"] == 2 and len(over) == 1
    again = [matrix / "evaluation" / ensemble["scores"] for ensemble in found["ensembles"]]
    code, out, _ = mmcl(*again)
    assert code == 0 and "weights given on the command line; best epoch on held-out 1" in out
    assert all(path.exists() for path in again)  # in the place of the comparison that made them, they stay


def test_weights_are_fitted_on_what_the_runs_held_out(mmcl: Mmcl, matrix: Path):
    code, out, _ = mmcl(matrix, "--ensemble", "validation")
    assert code == 0
    for ensemble in summary(matrix / "evaluation")["ensembles"]:
        assert ensemble["weights_chosen"] == "fitted on held-out subjects 1 of the training split"
        assert sum(ensemble["weights"]) == pytest.approx(1) and min(ensemble["weights"]) >= 0
    assert "weights were fitted on the subjects that the epochs were chosen on, too" in out


def test_held_out_scores_are_those_of_the_clips_that_no_member_trained_on(made: Path, matrix: Path):
    """Subject 1's training clips, by the run's kept weights; files, and runs that held nothing out, have none."""
    skeletons = read_skeletons(made / "acted" / "skeletons.h5")
    runs = [matrix / stream / "seed1" for stream in ("joint", "bone")]
    titles = {run: run.parent.name for run in runs}
    entries = entries_of([evaluate(run, None, lambda *_: None) for run in runs], {}, titles)
    found, whose = held_out_scores(entries, lambda run: skeletons, lambda *_: None)
    wanted = skeletons.rows("xsub", TRAIN)[skeletons.columns["subject"][skeletons.rows("xsub", TRAIN)] == 1]
    assert whose == "subjects 1" and len(wanted) == 6
    for scores in found:
        assert scores.names == tuple(skeletons.names[row] for row in wanted)
        assert scores.labels.tolist() == skeletons.labels[wanted].tolist()
    last = float(metrics(runs[0])[-1]["held_out_top1"])  # of one epoch, which is the one that was kept
    assert (found[0].values.argmax(1) == found[0].labels).mean() == pytest.approx(last)
    with pytest.raises(ValueError, match="--ensemble validation: ctrgcn/bone/seed1 is no run"):
        held_out_scores([entries[0], entry_of("bone")], lambda run: skeletons, lambda *_: None)
    whole = replace(entries[0], run=replace(read_run(runs[0]), config=replace(SMALL, validation="")))
    with pytest.raises(ValueError, match="--ensemble validation: joint is trained on all subjects"):
        held_out_scores([whole, entries[1]], lambda run: skeletons, lambda *_: None)
    held_other = replace(read_run(runs[1]).config, validation="3")
    other = replace(entries[1], run=replace(read_run(runs[1]), config=held_other))
    with pytest.raises(ValueError, match="bone: held out other clips than joint: 6 of 6 clips are missing"):
        held_out_scores([entries[0], other], lambda run: skeletons, lambda *_: None)


def test_a_run_whose_classes_are_in_another_order_is_put_in_the_firsts(matrix: Path):
    """Its scores, its labels and its confusions: nothing but the order differs."""
    runs = [matrix / stream / "seed1" for stream in ("joint", "bone")]
    first, second = (evaluate(run, None, lambda *_: None) for run in runs)
    turned = Scores(
        *(second.scores.names, np.ascontiguousarray(second.scores.values[:, ::-1]), 5 - second.scores.labels),
        second.scores.classes[::-1],
    )
    other = replace(second, scores=turned, metrics=measure(turned.values, turned.labels))
    titles = {run: run.parent.name for run in runs}
    as_it_was, found = (entries_of([first, one], {}, titles)[1] for one in (second, other))
    assert found.scores.classes == first.scores.classes
    np.testing.assert_array_equal(found.scores.values, as_it_was.scores.values)
    np.testing.assert_array_equal(found.metrics.confusion, as_it_was.metrics.confusion)


def test_weights_fitted_on_the_test_set_are_labelled_in_every_output(mmcl: Mmcl, matrix: Path):
    code, out, _ = mmcl(matrix, "--fit-weights-on-the-test-set")
    folder, label = matrix / "evaluation", "FITTED ON THE TEST SET"
    assert code == 0 and out.count(label) >= 2
    for file in ("comparison.json", "comparison.csv", "gains.csv", "report.html"):
        assert label in (folder / file).read_text(), file
    for ensemble in folder.glob("ensemble-FITTED-ON-THE-TEST-SET-seed*"):
        assert label in read_npz(ensemble / "scores.npz").about.selection
        assert label in (ensemble / "results.json").read_text()
    assert len(list(folder.glob("ensemble-*"))) == 2
    versus = [one["against_first_member"]["p_value"] for one in summary(folder)["ensembles"]]
    assert versus == [None, None] and out.count("CHOSEN ON THESE CLIPS: no test says what that is worth") == 2
    mmcl(matrix, "--ensemble", "equal")
    assert label not in (folder / "comparison.json").read_text() and not summary(folder)["weights_fitted_on_test"]


def test_a_pickle_of_others_is_matched_by_name_beside_a_run(mmcl: Mmcl, matrix: Path, tmp_path: Path):
    run = matrix / "joint" / "seed1"
    mmcl(run)
    scores = read_scores(run / "evaluation")
    theirs = dict(reversed(list(zip(scores.names, -scores.values, strict=True))))
    write_pickle(tmp_path / "theirs.pkl", theirs)
    code, out, _ = mmcl(run, tmp_path / "theirs.pkl", "--ensemble", "3,1", "--out", tmp_path / "side")
    assert code == 0 and "theirs.pkl: its file names no classes" in out
    found = summary(tmp_path / "side")
    wanted = (-scores.values).argmax(1) == scores.labels
    assert found["entries"][1]["top1"] == pytest.approx(wanted.mean())
    assert found["entries"][1]["selection"] == "not known"
    assert found["ensembles"][0]["top1"] == found["entries"][0]["top1"]  # 3 S - S has the same order


def test_what_is_wrong_is_one_line_and_the_runs_results_are_kept(mmcl: Mmcl, matrix: Path, made: Path, tmp_path: Path):
    run = matrix / "joint" / "seed1"
    few = write_npz(tmp_path / "few.npz", {"names": ["a", "b"], "scores": np.zeros((2, 6))})
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "run.json", unfinished)
    for words, wanted in (
        ((run, "--ensemble", "equal"), "an ensemble of one entry is none"),
        ((matrix, "--ensemble", "1,2,3"), "--ensemble 1,2,3: 3 weights for 2 members (joint/seed1, bone/seed1)"),
        ((matrix, "--ensemble", "0,0"), "weights are 0 or more, and one at least is more"),
        ((matrix, "--ensemble", "mean"), "--ensemble mean: wanted fixed, equal, validation, or a weight a member"),
        ((matrix, "--ensemble", "equal", "--fit-weights-on-the-test-set"), "each chooses the weights; say one"),
        ((run, few, "--ensemble", "validation"), "is no run: train its members with --validation"),
        ((run, few, "--ensemble", "fixed"), "few.npz: its file names no stream"),
        ((few,), "few.npz: has no labels: give a run of the same data set and split before it"),
        ((unfinished,), "training has not finished; run the same `mmcl train` again"),
        ((matrix, "--with-text"), "--with-text: refines the scores of one run"),
        ((few, "--speed"), "--speed: measures networks; give a run"),
        ((run, "--transfer", "--speed", "--data", made / "acted"), "leave --ensemble, --out and --speed out"),
        ((tmp_path / "gone.pkl",), "gone.pkl: no such score file"),
        ((made / "acted" / "skeletons.h5",), "skeletons.h5: no score file (.npz, .pkl, .pickle); give a run"),
    ):
        code, out, error = mmcl(*words)
        assert code == 2 and wanted in error and error.count("\n") == 1, (words, error)
        assert "top-1" not in out  # said before anything was tested
    code, _, error = mmcl(run, few)
    assert code == 2 and "12 of 12 clips are missing" in error and "2 of 2 clips are unknown (a, b)" in error
    assert (run / "evaluation" / "results.json").exists()


def test_runs_of_other_classes_are_refused_before_any_is_tested(mmcl: Mmcl, matrix: Path):
    run, other = matrix / "joint" / "seed1", matrix / "bone" / "seed1"
    described = json.loads((other / "run.json").read_text())
    described["classes"][0] = "juggle"
    (other / "run.json").write_text(json.dumps(described))
    code, out, error = mmcl(run, other, "--ensemble", "equal")
    assert code == 2 and not out
    assert "1 of 6 classes are missing" in error and "1 of 6 classes are unknown (juggle)" in error


def test_a_file_that_is_not_a_comparisons_is_never_overwritten(mmcl: Mmcl, matrix: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "gains.csv").write_text("my own")
    code, out, error = mmcl(matrix, "--out", tmp_path / "mine")
    assert code == 2 and not out
    assert "mine: holds gains.csv of something else than a comparison; give another --out" in error
    assert (tmp_path / "mine" / "gains.csv").read_text() == "my own"


def changed(run: Path, **entries: Any) -> None:
    """Other entries in a run.json."""
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(described | entries))


def test_what_a_run_starts_from_is_passed_on_to_a_comparison(mmcl: Mmcl, matrix: Path):
    """Weights that were fitted on held-out clips say that these may be known to such a member."""
    runs = [matrix / stream / "seed1" for stream in ("joint", "bone")]
    changed(runs[1], start=Start("/other/model.safetensors", "abc", False, 9, 9).as_dict())
    code, out, _ = mmcl(*runs, "--ensemble", "validation")
    assert code == 0
    found = summary(matrix / "evaluation")
    assert "bone/seed1: starts from /other/model.safetensors: all 9 entries" in found["notes"]
    seen = "the held-out clips may have been trained on in what they start from: bone/seed1"
    assert seen in found["notes"] and seen in out
    [ensemble] = found["ensembles"]
    assert ensemble["weights_chosen"].endswith(
        "of the training split, which members may have seen in what they start from"
    )
    assert ensemble["scores"] == "ensemble-fitted-on-held-out-seed1/scores.npz"  # however many subjects these are
    mmcl(*runs, "--ensemble", "equal")
    assert not any("start from" in note for note in summary(matrix / "evaluation")["notes"])


def test_a_place_that_can_hold_no_comparison_is_refused_before_anything_is_tested(
    mmcl: Mmcl, matrix: Path, tmp_path: Path
):
    run, other = matrix / "joint" / "seed1", matrix / "bone" / "seed1"
    (tmp_path / "file").write_text("mine")
    whole, cache = (run / "run.json").read_text(), {"key": "k", "dataset": "acted", "settings": {}}
    for words, wanted, change in (
        ((matrix, "--out", tmp_path / "file"), "file is a file; give another --out", {}),
        ((matrix, "--out", tmp_path / "file" / "deep"), "file is a file; give another --out", {}),
        ((matrix, "--out", run), "in the folder of a run, whose files it would mix with", {}),
        ((matrix, "--out", other / "evaluation" / "deep"), "in the folder of a run", {}),
        ((run, "--with-text"), "trained without FRM", {"text": None}),
        ((run, "--with-text"), "heads.safetensors: not there, and S_R needs its FRM", {"text": [cache]}),
        ((run, other), f"seed1: split xsub, beside {run} of xview; only the same", {"config": {"split": "xview"}}),
    ):
        changed(run, **change)
        code, out, error = mmcl(*words)
        assert code == 2 and not out and wanted in error and error.count("\n") == 1, (words, error)
        (run / "run.json").write_text(whole)
    assert (tmp_path / "file").read_text() == "mine"
    (run / "evaluation").write_text("mine")
    code, out, error = mmcl(matrix)
    assert code == 2 and not out and "evaluation: a file, where the evaluation's folder goes" in error


def test_a_second_comparison_takes_the_place_of_the_first(tmp_path: Path):
    """Its ensembles go, but for what others put there; cut off, it leaves no summary, and can be made again."""
    entries, out = [entry_of(stream) for stream in ("joint", "bone")], tmp_path / "out"
    asked = ("equal", "fixed")
    first, second = (compare(entries, ensembles_of(entries, one, held_out_scores), out) for one in asked)
    for found in (first, replace(first, ensembles=())):
        write_comparison(found, lambda found: out / "report.html")
        assert (out / "ensemble-equal-seed1").exists() == bool(found.ensembles)
    write_comparison(first, lambda found: out / "report.html")
    (out / "ensemble-equal-seed1" / "mine.txt").write_text("mine")
    (out / "ensemble-other").mkdir()

    def cut_off(found: Comparison) -> Path:
        assert not (out / "comparison.json").exists()  # the report comes before it
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_comparison(second, cut_off)
    assert not (out / "comparison.json").exists()
    assert [path.name for path in (out / "ensemble-equal-seed1").iterdir()] == ["mine.txt"]
    assert (out / "ensemble-other").exists()  # named by no comparison
    refuse_foreign(out)
    write_comparison(second, lambda found: out / "report.html")
    assert summary(out)["ensembles"][0]["scores"] == "ensemble-fixed-seed1/scores.npz"


def test_a_summary_that_names_other_folders_removes_none_of_them(tmp_path: Path):
    out = tmp_path / "out"
    found = compare([entry_of("joint")], (), out)
    for name in ("../scores.npz", "/scores.npz", "mine/scores.npz", "", "ensemble-x", 7, None):
        (out / "mine").mkdir(parents=True, exist_ok=True)
        kept = [folder / "scores.npz" for folder in (tmp_path, out / "mine")]
        for path in kept:
            path.write_text("mine")
        (out / "comparison.json").write_text(json.dumps({"made_by": "mmcl evaluate", "ensembles": [{"scores": name}]}))
        write_comparison(found, lambda found: out / "report.html")
        assert all(path.exists() for path in kept)


def test_a_comparison_goes_beside_the_runs_and_never_into_one(made: Path, tmp_path: Path):
    joint, bone = (made / "matrix" / stream / "seed1" for stream in ("joint", "bone"))
    assert asked_for([made / "matrix"]).out() == made / "matrix" / "evaluation"
    assert asked_for([joint, bone]).out() == made / "matrix" / "evaluation"
    assert asked_for([joint, joint.with_name("seed2")]).out() == made / "matrix" / "joint" / "evaluation"
    own = Path(shutil.copytree(joint, tmp_path / "run"))
    (own / "evaluation").mkdir()
    kept = write_npz(own / "evaluation" / "kept.npz", {"names": ["a"], "scores": [[0, 1]]})
    assert asked_for([own, kept]).out() == asked_for([kept]).out() == tmp_path / "evaluation"
    assert asked_for([joint, bone, made / "matrix", joint]).paths == (
        *(joint, bone),
        *(made / "matrix" / stream / "seed2" for stream in ("joint", "bone")),
    )


def test_a_matrix_that_has_nothing_finished_is_refused(made: Path, tmp_path: Path):
    folder = tmp_path / "matrix"
    (folder / "joint" / "seed1").mkdir(parents=True)
    shutil.copy(made / "matrix" / "joint" / "seed1" / "run.json", folder / "joint" / "seed1")
    with pytest.raises(ValueError, match=r"matrix: none of its runs has finished \(joint/seed1\); run the command"):
        asked_for([folder])


def test_what_a_reader_must_know_stands_beside_a_comparison(tmp_path: Path):
    """Which clips the differences are of, that p-values are many, and what intervals don't cover."""
    entries = [entry_of(stream) for stream in ("joint", "bone", "joint-motion")]
    found = compare(entries, (), tmp_path)
    assert found.on == "made-up xsub" and found.clips == 40 and len(found.paired) == len(found.gains) == 2
    assert found.notes == (
        "95% intervals: bootstrap over the test clips, 10,000 resamples: other subjects, cameras or training seeds are "
        "not in them",
        "differences are to ctrgcn/joint/seed1, on the same 40 clips",
        "p-values are each comparison's own; of 2, one of p < 0.025 is more than chance (Bonferroni)",
    )
    assert found.paired[0] == mcnemar(*(entry.scores.values.argmax(1) == entry.scores.labels for entry in entries[:2]))


@pytest.mark.parametrize("many", [0, 10_000_000])
def test_what_takes_seconds_shows_how_far_it_is(mmcl: Mmcl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int):
    monkeypatch.setattr("mmcl.trainer.testing.session.MANY", many)
    for seed, stream in enumerate(("joint", "bone")):
        (tmp_path / stream).mkdir()
        write_scores(tmp_path / stream, scores_of(seed), About("last epoch", "made-up", "xsub", "ctrgcn", stream, 1))
    code, out, _ = mmcl(*tmp_path.glob("*/scores.npz"), "--ensemble", "equal")
    assert code == 0
    assert ("entries compared: 2/2" in out) == ("ensembles: 1/1" in out) == (many == 0)


def test_score_files_alone_can_be_compared(mmcl: Mmcl, tmp_path: Path):
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        write_scores(tmp_path / name, scores_of(seed), About("last epoch", "made-up", "xsub", "ctrgcn", "joint", seed))
    code, out, _ = mmcl(tmp_path / "one" / "scores.npz", tmp_path / "two" / "scores.npz")
    assert code == 0 and "made-up xsub: 40 test clips; last epoch" in out
    assert [entry["title"] for entry in summary(tmp_path / "evaluation")["entries"]] == [
        *("one/scores.npz", "two/scores.npz")
    ]
