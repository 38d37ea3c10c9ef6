"""Evaluation: skeletons and model.safetensors, nothing else; its files; what it refuses and what it labels."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, Split, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.tests.training import Watch
from mmcl.trainer.config import Config
from mmcl.trainer.data.samples import choose_cache, choose_caches
from mmcl.trainer.loop.start import Start
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.run import read_run
from mmcl.trainer.testing.confusion import draw_confusion
from mmcl.trainer.testing.evaluate import Evaluation, evaluate, evaluate_with_text
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.notes import notes_of
from mmcl.trainer.testing.scores import About, read_npz
from mmcl.trainer.testing.tables import result_table

TINY = Config(split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=2, warmup=0, milestones=(), lr=0.05)
KINDS = ("rgb", "text")

ALONE = """
import json, sys, torch
torch.set_num_threads(1)
for name in ("transformers", "cv2", "mmcl.pipeline"):
    sys.modules[name] = None  # importing it is an ImportError
from pathlib import Path
from mmcl.trainer.testing.evaluate import evaluate
from mmcl.trainer.report import run_lines
from mmcl.trainer.testing.tables import class_table, result_table
result = evaluate(Path(sys.argv[1]), None, lambda done, total: None)
class_table(result), result_table(result), run_lines(result.run)
import mmcl.trainer.loop.train
print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
"""


def nothing(*_: object) -> None:
    pass


def trained(data: Path, out: Path, config: Config = TINY, caches: str | None = "none") -> Path:
    train(plan(Job(data, out, config, choose_cache(data, "rgb", caches), choose_caches(data, caches))), out, Watch())
    return out


def features(data: Path) -> None:
    names = list(read_skeletons(data / "skeletons.h5").names)
    values = np.random.default_rng(0).normal(size=(len(names), 4)).astype(np.float32)
    reasons = ["broken video", *[""] * (len(names) - 1)]
    for kind, column, settings in (
        ("rgb", "feature", {"model": "net"}),
        ("text", "prompt_feature", {"model": "llm", "prompt": "holding-object"}),
    ):
        folder = create_cache(data, Recipe(kind, "acted", settings))
        write_part(folder, 0, names, reasons, {column: values})
        merge(folder)


@pytest.fixture(scope="module")
def taught(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `acted`, its feature caches, and a `run` trained with both. Not to be changed."""
    folder = tmp_path_factory.mktemp("taught")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    features(data)
    trained(data, folder / "run", replace(TINY, allow_missing=True), None)
    return folder


@pytest.fixture
def own(taught: Path, tmp_path: Path) -> Path:
    """A test's own copy of the run, still pointing at the shared data."""
    return Path(shutil.copytree(taught / "run", tmp_path / "run"))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_nothing_of_stage_one_is_needed(own: Path, taught: Path, tmp_path: Path):
    """The same scores with the feature caches and the heads gone, in an interpreter that cannot import stage one."""
    evaluate(own, None, nothing)
    with_caches = np.load(own / "evaluation" / "scores.npz")["scores"]
    bare = Path(shutil.copytree(taught / "acted", tmp_path / "acted"))
    for kind in KINDS:
        shutil.rmtree(bare / kind)
    for name in ("heads.safetensors", "state.pt", "metrics.csv", "log.txt"):
        (own / name).unlink()
    shutil.rmtree(own / "evaluation")
    described = json.loads((own / "run.json").read_text())
    (own / "run.json").write_text(json.dumps(described | {"data": str(bare)}))
    done = subprocess.run([sys.executable, "-c", ALONE, own], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "mmcl.trainer.loop.train" in loaded
    assert not [name for name in loaded if name.split(".")[0] in ("transformers", "cv2") or "mmcl.pipeline" in name]
    np.testing.assert_allclose(np.load(own / "evaluation" / "scores.npz")["scores"], with_caches, rtol=1e-5, atol=1e-4)


def test_the_files_agree_with_each_other_and_with_the_data(own: Path, taught: Path):
    calls: list[tuple[int, int]] = []
    result = evaluate(own, None, lambda *call: calls.append(call))
    skeletons, folder = read_skeletons(taught / "acted" / "skeletons.h5"), own / "evaluation"
    rows = skeletons.rows("xsub", TEST)
    assert calls[-1] == (len(rows), len(rows)) and result.folder == folder
    found = np.load(folder / "scores.npz", allow_pickle=False)
    assert found["names"].tolist() == [skeletons.names[row] for row in rows]
    assert found["labels"].tolist() == skeletons.labels[rows].tolist()
    assert found["scores"].shape == (len(rows), 6) and found["scores"].dtype == np.float32
    metrics = measure(found["scores"], found["labels"])
    summary = json.loads((folder / "results.json").read_text())
    assert summary["top1"] == metrics.top1 == result.metrics.top1 and summary["top5"] == metrics.top5
    assert summary["mean_class_accuracy"] == metrics.mean_class and summary["chance"] == metrics.chance
    assert (summary["dataset"], summary["split"], summary["stream"], summary["clips"]) == ("acted", "xsub", "joint", 12)
    assert summary["parameters"] == result.parameters and summary["select_on_test"] is False
    header, *lines = rows_of(folder / "confusion.csv")
    assert header == ["true \\ called (last epoch)", *skeletons.classes] and [line[0] for line in lines] == list(
        skeletons.classes
    )
    np.testing.assert_array_equal(np.array([line[1:] for line in lines], int), metrics.confusion)
    header, *lines = rows_of(folder / "per_class.csv")
    assert header == ["class", "clips", "accuracy", "mistaken_for", "mistakes", "kept"]
    assert [line[:2] for line in lines] == [[name, "2"] for name in skeletons.classes]
    assert np.mean([float(line[2]) for line in lines]) == pytest.approx(metrics.mean_class, abs=1e-3)
    with Image.open(folder / "confusion.png") as picture:
        assert picture.format == "PNG" and picture.width > 300
    assert not list(folder.glob("*.tmp"))


def test_notes_say_what_was_used_and_what_was_missing(own: Path):
    notes = evaluate(own, None, nothing).notes
    assert notes[0] == "epoch: last epoch"
    gap = "1 of 12 training clips had no features and were masked out"
    assert notes[1].startswith("FAM: frozen net, cache ") and notes[1].endswith(gap)
    assert notes[2].startswith("FRM: frozen llm, prompt holding-object, cache ") and notes[2].endswith(gap)
    assert notes[3:] == ["options: width 8 (default 64)"]
    assert json.loads((own / "evaluation" / "results.json").read_text())["notes"] == notes


def test_notes_name_the_control_and_every_option_that_is_not_the_default(own: Path):
    """Options of FAM and FRM only where there are such; what the weights were at first; nothing where all is usual."""
    run = read_run(own)
    config = replace(
        run.config, features="shuffled", precision="bf16", temperature_learned=True, align_same_class=False
    )
    config = replace(config, refine_features=("answer_ids",), schedule="cosine", width=64)
    notes = notes_of(replace(run, config=config))
    assert "CONTROL, shuffled features: every training clip is given another one's, which says nothing of it" in notes
    network = "options: schedule cosine (default step), precision bf16 (default fp32)"
    heads = "temperature_learned on (default off), align_same_class off (default on), refine_features answer_ids"
    assert notes[-1] == f"{network}, {heads} (default prompt_feature+answer_feature+probabilities)"
    alone = notes_of(replace(run, config=config, rgb=None, text=(), missing={}))
    assert alone[1:] == ["FAM: none", "FRM: none", network]
    usual = notes_of(replace(run, config=replace(run.config, width=64)))
    assert not [note for note in usual if note.startswith(("CONTROL", "options"))]
    start = Start("runs/first", "ab12", backbone_only=True, loaded=3, entries=4, left_out=("stem",)).as_dict()
    assert any("runs/first" in note and "stem" in note for note in notes_of(replace(run, start=start)))


def test_several_prompts_are_all_named(own: Path):
    run = read_run(own)
    other = {**run.text[0], "key": "0123456789ab", "settings": {"model": "llm", "prompt": "touching-head"}}
    [note] = [note for note in notes_of(replace(run, text=(*run.text, other))) if note.startswith("FRM: ")]
    assert re.search(
        r"frozen llm, prompt holding-object, cache \w+ \+ llm, prompt touching-head, cache 0123456789ab", note
    )


def test_a_run_of_an_older_version_is_tested_all_the_same(own: Path):
    """Its config lacks the newer keys, its one text cache is no list, and it has no start."""
    wanted = evaluate(own, None, nothing)
    described = json.loads((own / "run.json").read_text())
    new = ("schedule", "clip_grad", "lr_batch", "precision", "compile", "features", "align_input", "refine_features")
    described["config"] = {name: value for name, value in described["config"].items() if name not in new}
    described["text"] = described["text"][0]
    del described["start"]
    (own / "run.json").write_text(json.dumps(described))
    found = evaluate(own, None, nothing)
    assert found.metrics.top1 == wanted.metrics.top1 and found.notes == wanted.notes
    (own / "run.json").write_text(json.dumps(described | {"text": None, "missing": {"rgb": []}}))
    assert "FRM: none" in evaluate(own, None, nothing).notes


def test_skeletons_that_were_read_already_are_not_read_again(own: Path, taught: Path, monkeypatch: pytest.MonkeyPatch):
    wanted, skeletons = evaluate(own, None, nothing), read_skeletons(taught / "acted" / "skeletons.h5")
    monkeypatch.setattr("mmcl.trainer.testing.evaluate.read_whole", lambda path: pytest.fail("read"))
    assert evaluate(own, None, nothing, skeletons=skeletons).metrics.top1 == wanted.metrics.top1


def test_evaluating_again_gives_the_same_numbers(own: Path):
    evaluate(own, None, nothing)
    first = {path.name: path.read_bytes() for path in (own / "evaluation").iterdir()}
    evaluate(own, None, nothing)
    again = {path.name: path.read_bytes() for path in (own / "evaluation").iterdir()}
    for name in ("results.json", "confusion.csv", "per_class.csv"):
        assert first[name] == again[name]
    assert sorted(first) == ["confusion.csv", "confusion.png", "per_class.csv", "results.json", "scores.npz"]


def test_an_epoch_chosen_on_the_test_set_is_labelled_everywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    titles: list[str] = []

    def drawn(path: Path, confusion: np.ndarray, classes: tuple[str, ...], title: str) -> None:
        titles.append(title)
        draw_confusion(path, confusion, classes, title)

    monkeypatch.setattr("mmcl.trainer.testing.written.draw_confusion", drawn)
    run = trained(data, tmp_path / "run", replace(TINY, epochs=3, select_on_test=True))
    result = evaluate(run, None, nothing)
    with (run / "metrics.csv").open(newline="") as file:
        assert result.metrics.top1 == max(float(line["held_out_top1"]) for line in csv.DictReader(file))
    summary = json.loads((run / "evaluation" / "results.json").read_text())
    assert summary["select_on_test"] is True and summary["kept"] == "best epoch CHOSEN ON THE TEST SET"
    assert "epoch: best epoch CHOSEN ON THE TEST SET" in summary["notes"]
    assert titles == [f"acted xsub joint: top-1 {result.metrics.top1:.1%} of 12, best epoch CHOSEN ON THE TEST SET"]
    for file in ("log.txt", "metrics.csv", "evaluation/per_class.csv", "evaluation/confusion.csv"):
        assert "CHOSEN ON THE TEST SET" in (run / file).read_text()
    assert "CHOSEN ON THE TEST SET" in str(np.load(run / "evaluation" / "scores.npz")["selection"])


def test_an_unfinished_run_and_a_folder_without_one_are_refused(own: Path, tmp_path: Path):
    (own / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="training has not finished; run the same `mmcl train` again, it resumes"):
        evaluate(own, None, nothing)
    with pytest.raises(FileNotFoundError, match=r"no run here \(run\.json is missing\); train one with `mmcl train`"):
        evaluate(tmp_path, None, nothing)
    (own / "run.json").write_text('{"config": {}}')
    with pytest.raises(ValueError, match=r"run\.json: not a run \('layout'\)"):
        evaluate(own, None, nothing)
    assert not (own / "evaluation").exists()


def test_another_data_set_is_refused(own: Path, data: Path):
    skeletons = read_skeletons(data / "skeletons.h5")
    named = tuple(reversed(skeletons.classes))
    write_skeletons(data / "skeletons.h5", replace(skeletons, dataset="other", classes=named))
    with pytest.raises(
        ValueError, match=r"trained on acted \(6 classes, kinect-v1 in metres\), these skeletons are other \(6"
    ):
        evaluate(own, data, nothing)


def test_more_bodies_than_the_network_has_room_for_are_refused(own: Path, data: Path):
    skeletons = read_skeletons(data / "skeletons.h5")
    rows = [skeletons.joints[row] for row in range(24)]
    joints = Ragged.of([np.concatenate([rows[0], rows[0]]), *rows[1:]])
    write_skeletons(data / "skeletons.h5", replace(skeletons, joints=joints, bodies=np.array([2, *[1] * 23])))
    with pytest.raises(ValueError, match="trained with room for 1 bodies, these clips have 2"):
        evaluate(own, data, nothing)


def test_data_prepared_again_is_refused_unless_it_is_pointed_at_and_then_noted(data: Path, tmp_path: Path):
    run = trained(data, tmp_path / "run", replace(TINY, epochs=1))
    skeletons = read_skeletons(data / "skeletons.h5")
    write_skeletons(data / "skeletons.h5", replace(skeletons, columns={}))
    changed = read_skeletons(data / "skeletons.h5").digest
    with pytest.raises(ValueError, match=rf"prepared again .*was {skeletons.digest}, now {changed}\); pass --data"):
        evaluate(run, None, nothing)
    assert evaluate(run, data, nothing).notes[-1] == (
        f"data: not what was trained on ({skeletons.digest}), but {changed}"
    )


def test_data_that_moved_is_asked_for(data: Path, tmp_path: Path):
    run = trained(data, tmp_path / "run", replace(TINY, epochs=1))
    data.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="the data of this run is not there; pass --data with where it is now"):
        evaluate(run, None, nothing)
    result = evaluate(run, tmp_path / "moved", nothing)
    assert isinstance(result, Evaluation) and not [note for note in result.notes if note.startswith("data: ")]


def test_a_split_without_test_clips_is_refused(own: Path, data: Path):
    skeletons = read_skeletons(data / "skeletons.h5")
    nobody = {name: Split(np.zeros_like(split.sides)) for name, split in skeletons.splits.items()}
    write_skeletons(data / "skeletons.h5", replace(skeletons, splits=nobody))
    with pytest.raises(ValueError, match="acted: split xsub has no test clips"):
        evaluate(own, data, nothing)


@pytest.mark.parametrize(("classes", "counts"), [(60, True), (61, False)])
def test_counts_are_drawn_where_they_can_be_read_and_the_picture_is_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, counts: bool
):
    drawn = list[str]()
    draw = Text.draw

    def seen(text: Text, *given: object, **named: object) -> None:
        drawn.append(text.get_text())
        draw(text, *given, **named)

    monkeypatch.setattr(Text, "draw", seen)
    names = tuple(f"class {label}" for label in range(classes))
    draw_confusion(tmp_path / "confusion.png", 777 * np.eye(classes, dtype=int), names, "title")
    assert drawn.count("777") == (classes if counts else 0)
    assert drawn.count("title") == 1


@pytest.mark.parametrize("classes", [("pay $5^$", "take $_$", "a_b^c"), tuple(f"class {i}" for i in range(120))])
def test_a_confusion_matrix_draws_names_as_they_are_at_3_and_at_120_classes(tmp_path: Path, classes: tuple[str, ...]):
    draw_confusion(tmp_path / "confusion.png", np.eye(len(classes), dtype=int), classes, "cost: $^$")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 20 * len(classes)


def test_scores_do_not_depend_on_how_many_clips_are_scored_together(own: Path, taught: Path):
    result = evaluate(own, None, nothing)
    wanted = np.load(result.folder / "scores.npz")["scores"]
    from mmcl.trainer.data.skeleton import body_of, pack
    from mmcl.trainer.loop.checkpoint import load_model
    from mmcl.trainer.testing.scoring import score

    skeletons = read_skeletons(taught / "acted" / "skeletons.h5")
    body, rows = body_of(result.run.layout, 1, "zero"), skeletons.rows("xsub", TEST)
    model = load_model(own, result.run)
    for place in (0, 7):
        alone = score(model, pack(skeletons), rows[place : place + 1], body=body, config=result.run.config)
        torch.testing.assert_close(alone[0], torch.tensor(wanted[place]), atol=1e-4, rtol=1e-4)


def test_every_number_has_its_interval_in_the_results_and_on_the_screen(own: Path):
    result = evaluate(own, None, nothing)
    summary = json.loads((result.folder / "results.json").read_text())
    for name, number in (("top1", "top1"), ("top5", "top5"), ("mean_class", "mean_class_accuracy")):
        low, high = summary[f"{name}_interval"]
        assert [low, high] == list(getattr(result.metrics, f"{name}_interval"))
        assert 0 <= low <= summary[number] <= high <= 1
    assert summary["intervals"] == "95% intervals: bootstrap over the test clips, 10,000 resamples"
    low, high = (100 * bound for bound in result.metrics.top1_interval)
    assert low < high
    shown = printed(result_table(result))
    assert f"{result.metrics.top1:.2%} [{low:.1f}, {high:.1f}]" in shown
    assert "bootstrap over these clips; other subjects or training seeds are not in it" in shown


def test_top5_of_five_classes_says_nothing(own: Path):
    result = evaluate(own, None, nothing)
    five = replace(result, metrics=measure(np.eye(5, dtype=np.float32), np.arange(5)))
    assert re.search(r"top-5 +│ +says nothing", printed(result_table(five)))
    assert re.search(r"top-5 +│ +\d", printed(result_table(result)))


def test_the_scores_of_an_evaluation_name_what_they_are_of(own: Path):
    result = evaluate(own, None, nothing)
    found = read_npz(result.folder / "scores.npz")
    assert found.classes == result.run.classes and found.names == result.scores.names
    assert found.about == About("last epoch", "acted", "xsub", "ctrgcn", "joint", result.run.config.seed)
    np.testing.assert_array_equal(found.values, result.scores.values)


def test_a_network_whose_weights_are_no_numbers_is_refused(own: Path):
    entries = load_file(own / "model.safetensors")
    broken = {name: value * torch.nan if value.is_floating_point() else value for name, value in entries.items()}
    save_file(broken, own / "model.safetensors")
    with pytest.raises(ValueError, match=r"12 of 12 clips have scores that are no numbers \(NaN or Inf\)"):
        evaluate(own, None, nothing)
    assert not (own / "evaluation").exists()


def test_with_the_llm_at_test_time_every_output_says_so_and_the_skeletons_result_stays(
    own: Path, taught: Path, monkeypatch: pytest.MonkeyPatch
):
    """S_R goes to a folder of its own; title, tables, matrix, scores and notes are labelled."""
    label, titles = "with the LLM at test time: NOT skeleton-only", list[str]()

    def drawn(path: Path, confusion: np.ndarray, classes: tuple[str, ...], title: str) -> None:
        titles.append(title)
        draw_confusion(path, confusion, classes, title)

    only = evaluate(own, None, nothing)
    before = {path.name: path.read_bytes() for path in only.folder.iterdir()}
    monkeypatch.setattr("mmcl.trainer.testing.written.draw_confusion", drawn)
    skeletons = read_skeletons(taught / "acted" / "skeletons.h5")
    result = evaluate_with_text(own, skeletons, only, taught / "acted")
    assert result.folder == own / "evaluation-with-text" and result.notes[0] == label
    assert not np.array_equal(result.scores.values, only.scores.values)
    assert result.scores.names == only.scores.names and result.parameters == only.parameters
    for file in ("results.json", "per_class.csv", "confusion.csv"):
        assert label in (result.folder / file).read_text()
        assert label not in (only.folder / file).read_text()
    assert label in read_npz(result.folder / "scores.npz").about.selection and label in titles[0]
    assert label in printed(result_table(result)) and label not in printed(result_table(only))
    assert {path.name: path.read_bytes() for path in only.folder.iterdir()} == before


def printed(table: Table) -> str:
    """The table in one line: titles are as wide as the table is."""
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return " ".join(console.export_text().split())
