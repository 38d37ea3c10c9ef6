"""Streams x seeds x ablations: which cells there are, and what is said of what they have come to."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from mmcl.trainer.config import STREAMS, Config
from mmcl.trainer.matrix.cells import ABLATIONS, Cell, Matrix, ablations_of, into, matrix_of, or_none, streams_of
from mmcl.trainer.matrix.picture import draw_matrix
from mmcl.trainer.matrix.results import About, Found, Result, groups_of, left_out_of, result_of, results_of, spread
from mmcl.trainer.matrix.tables import matrix_table, note_lines, percent, points, write_csv_of, write_json_of
from mmcl.trainer.plan import Job

JOB = Job(Path("data"), Path("runs/acted-xsub-joint"), Config(seed=3), Path("rgb"), (Path("text"),))
ABOUT = About("acted", "xsub", 464, "last epoch", select_on_test=False)
CHOSEN = About("acted", "xsub", 464, "best epoch CHOSEN ON THE TEST SET", select_on_test=True)


def group(ablation: str, stream: str, *top1: float | None) -> list[Result]:
    """A group's results by seed from 1 on; None is a cell that is not finished."""
    cells = [Cell(ablation, stream, seed) for seed in range(1, len(top1) + 1)]
    return [
        Result(cell, Path("out") / cell.name, "not finished")
        if value is None
        else Result(cell, Path("out") / cell.name, "tested", value, 1.0, value - 0.01, 464)
        for cell, value in zip(cells, top1, strict=True)
    ]


def found(results: list[Result], about: About = ABOUT, **more: object) -> Found:
    return replace(Found(Path("out"), about, results, groups_of(results)), **more)


def shown(results: list[Result], about: About = ABOUT) -> str:
    console = Console(width=200)
    with console.capture() as said:
        console.print(matrix_table(groups_of(results), about))
    return said.get()


# -- cells


def test_a_cell_has_a_folder_that_says_what_it_is():
    assert Cell("", "bone-motion", 1).name == "bone-motion/seed1"
    assert Cell("FAM-shuffled", "joint", 2).name == "FAM-shuffled/joint/seed2"


def test_seeds_go_on_from_the_configs_and_one_seed_is_done_before_the_next():
    cells = matrix_of(JOB, ("joint", "bone"), 2).cells
    assert [cell.name for cell in cells] == ["joint/seed3", "bone/seed3", "joint/seed4", "bone/seed4"]
    assert [cell.stream for cell in matrix_of(JOB, (), 1).cells] == ["joint"]


def test_a_cell_trains_what_its_name_says():
    """Its stream, seed, features and control; everything else is the job's."""
    matrix = matrix_of(JOB, ("bone",), 2, tuple(ABLATIONS))  # the second seed's stand in the end
    jobs = {cell.ablation: matrix.job_of(cell) for cell in matrix.cells}
    used = {name: (job.rgb is not None, bool(job.text), job.config.features) for name, job in jobs.items()}
    assert used == {
        "none": (False, False, "real"),
        "FAM": (True, False, "real"),
        "FRM": (False, True, "real"),
        "both": (True, True, "real"),
        "FAM-constant": (True, False, "constant"),
        "FAM-shuffled": (True, False, "shuffled"),
        "FRM-constant": (False, True, "constant"),
        "FRM-shuffled": (False, True, "shuffled"),
        "both-constant": (True, True, "constant"),
        "both-shuffled": (True, True, "shuffled"),
    }
    for name, job in jobs.items():
        assert job.out == JOB.out / name / "bone" / "seed4" and job.config.seed == 4
        assert replace(job.config, stream="joint", features="real", seed=3) == JOB.config
    plain = matrix_of(JOB, ("bone",), 1)
    assert plain.job_of(plain.cells[0]) == replace(
        JOB, out=JOB.out / "bone" / "seed3", config=replace(JOB.config, stream="bone")
    )


def test_streams_are_named_one_by_one_or_all_at_once():
    assert streams_of("bone") == ("bone",)
    assert streams_of("joint, bone-motion,joint") == ("joint", "bone-motion")
    assert streams_of("all") == STREAMS
    with pytest.raises(
        ValueError, match=r"--stream motion: no such stream: did you mean bone-motion\? known are joint, "
    ):
        streams_of("joint,motion")


@pytest.mark.parametrize(
    ("rgb", "text", "names"),
    [
        (Path("r"), (Path("t"),), ("none", "FAM", "FRM", "both", "both-constant", "both-shuffled")),
        (Path("r"), (), ("none", "FAM", "FAM-constant", "FAM-shuffled")),
        (None, (Path("t"),), ("none", "FRM", "FRM-constant", "FRM-shuffled")),
    ],
)
def test_the_ablations_are_those_that_make_sense_with_the_features_there_are(rgb, text, names):
    assert ablations_of(None, replace(JOB, rgb=rgb, text=text)) == names


def test_ablations_are_chosen_by_name_and_what_cannot_be_is_refused():
    assert ablations_of("FAM-shuffled, none", JOB) == ("FAM-shuffled", "none")
    with pytest.raises(ValueError, match=r"--only FAM-shuffle: no such ablation: did you mean FAM-shuffled\?"):
        ablations_of("FAM-shuffle", JOB)
    with pytest.raises(ValueError, match=r"--only both: needs the features of --text, and there are none"):
        ablations_of("none,both", replace(JOB, text=()))
    with pytest.raises(ValueError, match=r"data: no features to compare trainings with; make some with `mmcl extract"):
        ablations_of("none", replace(JOB, rgb=None, text=()))
    with pytest.raises(ValueError, match=r"features = shuffled: an ablation makes the controls itself; leave it out"):
        ablations_of(None, replace(JOB, config=Config(features="shuffled")))


def test_a_kind_without_a_cache_is_left_out_unless_it_is_asked_for(data: Path):
    assert or_none(data, "rgb", None) == "none"
    assert or_none(data, "rgb", "resnet") == "resnet"


def test_a_matrix_has_a_folder_of_its_own():
    assert into(JOB, None, "ablation").out == Path("runs/acted-xsub-ablation")
    assert into(JOB, JOB.out, "ablation").out == JOB.out


# -- numbers


def test_mean_and_sample_deviation_over_seeds():
    """By hand: of 0.90, 0.92 and 0.97 the mean is 0.93, the sample deviation sqrt((9 + 1 + 16) / 2) points."""
    three = spread([0.90, 0.92, None, 0.97])
    assert three is not None and three.n == 3
    assert three.mean == pytest.approx(0.93) and three.deviation == pytest.approx(0.13**0.5 / 10)
    assert percent(three) == "93.00 ± 3.61"
    assert spread([0.5]) == (1, 0.5, None) and percent(spread([0.5])) == "50.00"
    assert spread([None]) is None and percent(None) == "-"


def test_differences_to_none_are_paired_by_seed():
    """Seeds differ by far more than the ablation does; over the same seeds the difference is clear."""
    results = [*group("none", "joint", 0.80, 0.90, 0.70), *group("FAM", "joint", 0.81, 0.92, None)]
    results += [*group("none", "bone", 0.5), *group("FAM", "bone", 0.4)]
    none, fam, _, bone = groups_of(results)
    assert none.versus_none is None
    assert fam.versus_none is not None and bone.versus_none is not None
    assert points(fam.versus_none) == "+1.5 ± 0.7 (2 seeds)"
    assert points(bone.versus_none) == "-10.0 (1 seed)"


def test_a_seed_that_only_one_of_the_two_has_is_no_pair():
    results = [*group("none", "joint", None, 0.9), *group("FAM", "joint", 0.8, None)]
    assert groups_of(results)[1].versus_none is None


# -- what is shown


def test_the_table_has_a_line_a_group_with_its_seeds():
    results = [*group("none", "joint", 0.80, 0.90), *group("FAM", "joint", 0.81, None)]
    results += [Result(Cell("both", "joint", 1), Path("out"), "failed", error="it broke")]
    lines = [line.split("│")[1:-1] for line in shown(results).splitlines() if "│" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["none", "joint", "2", "85.00 ± 7.07", "100.00 ± 0.00", "84.00 ± 7.07", "-"],
        ["FAM", "joint", "1 of 2, 1 not finished", "81.00", "100.00", "80.00", "+1.0 (1 seed)"],
        ["both", "joint", "0 of 1, 1 failed", "-", "-", "-", "-"],
    ]


def test_streams_alone_have_no_column_of_ablations():
    said = shown(group("", "bone", 0.5))
    assert "bone" in said and "ablation" not in said and "minus none" not in said


def test_how_epochs_were_chosen_is_said_in_every_output(tmp_path: Path):
    results = group("none", "joint", 0.80, 0.90)
    here = replace(found(results, CHOSEN), folder=Path("out"))
    assert "CHOSEN ON THE TEST SET" in shown(results, CHOSEN)
    assert any("EPOCHS WERE CHOSEN ON THE TEST SET" in line for line in note_lines(here))
    write_csv_of(tmp_path / "matrix.csv", here)
    write_json_of(tmp_path / "matrix.json", here)
    with (tmp_path / "matrix.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["run"], line["top1"], line["kept"], line["select_on_test"]) for line in lines] == [
        (f"none/joint/seed{seed}", top1, "best epoch CHOSEN ON THE TEST SET", "True")
        for seed, top1 in ((1, "0.8"), (2, "0.9"))
    ]
    content = json.loads((tmp_path / "matrix.json").read_text())
    assert content["select_on_test"] is True and content["kept"] == "best epoch CHOSEN ON THE TEST SET"
    assert content["groups"][0]["top1"]["deviation"] == pytest.approx(0.0707, abs=1e-4)
    assert "TEST SET" not in "\n".join([shown(results), *note_lines(found(results))])


def test_the_picture_says_how_epochs_were_chosen_and_shows_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said, dots = list[str](), list[int]()
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    supxlabel, scatter = Figure.supxlabel, Axes.scatter
    monkeypatch.setattr(Figure, "supxlabel", lambda self, text, **k: said.append(text) or supxlabel(self, text, **k))
    monkeypatch.setattr(Axes, "scatter", lambda self, x, y, **k: dots.append(len(x)) or scatter(self, x, y, **k))
    results = [*group("none", "joint", 0.8, 0.9, 0.8), *group("both-shuffled", "bone", 0.7), *group("FAM", "bone")]
    draw_matrix(tmp_path / "matrix.png", groups_of(results), replace(CHOSEN, dataset="cost $5^$"))
    assert len(said) == 1 and "CHOSEN ON THE TEST SET" in said[0] and dots == [3, 1]
    with Image.open(tmp_path / "matrix.png") as picture:
        assert picture.format == "PNG" and picture.width > 600


def test_what_failed_what_others_do_and_what_leaks_is_said():
    results = [*group("", "joint", 0.8), Result(Cell("", "bone", 1), Path("out"), "failed", error="the loss is NaN")]
    results[0] = replace(results[0], leaked=95)
    lines = note_lines(found(results, elsewhere=(Cell("", "bone", 2),)))
    assert "failed: bone/seed1: the loss is NaN" in lines
    assert "LEAK: 95 of 464 test clips have the very joints of a training clip" in lines
    assert "other processes are training bone/seed2; whoever is last writes the whole table" in lines
    assert not [
        line for line in note_lines(found(group("", "joint", 0.8))) if line.startswith(("failed", "LEAK", "oth"))
    ]


def test_a_cell_stands_where_its_folder_says(tmp_path: Path):
    matrix = Matrix(replace(JOB, out=tmp_path), tuple(Cell("", "joint", seed) for seed in range(4)))
    folders = [matrix.folder(cell) for cell in matrix.cells]
    for folder in folders[1:]:
        (folder / "evaluation").mkdir(parents=True)
        (folder / "model.safetensors").touch()
    (folders[2] / "failed.txt").write_text("the disk is full\n")
    accuracies = {"top1": 0.5, "top5": 0.75, "mean_class_accuracy": 0.25}
    content = accuracies | {"clips": 12, "leaked_clips": None}
    (folders[3] / "evaluation" / "results.json").write_text(json.dumps(content))
    found = results_of(matrix)
    assert [r.status for r in found] == ["not finished", "trained, not tested", "failed", "tested"]
    assert found[2].error == "the disk is full"
    assert (found[3].top1, found[3].top5, found[3].mean_class, found[3].clips) == (0.5, 0.75, 0.25, 12)


@pytest.mark.parametrize("content", ["{}", '{"top1": 0.', "[]", '{"top1": null}', "\xff"])
def test_a_cell_whose_results_cannot_be_read_is_not_tested(tmp_path: Path, content: str):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "evaluation" / "results.json").write_bytes(content.encode("latin-1"))
    assert result_of(Cell("", "joint", 1), tmp_path).status == "trained, not tested"


def test_a_failure_may_be_cleared_by_another_process_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process that begins the cell anew takes the file away at the very moment."""
    exists, read_text = Path.exists, Path.read_text

    def cleared(path: Path) -> Path:
        if path.name == "failed.txt":
            Path.unlink(path, missing_ok=True)
        return path

    monkeypatch.setattr(Path, "exists", lambda self: (exists(self), cleared(self))[0])
    monkeypatch.setattr(Path, "read_text", lambda self, **k: read_text(cleared(self), **k))
    (tmp_path / "failed.txt").write_text("the disk is full\n")
    assert result_of(Cell("", "joint", 1), tmp_path).status == "not finished"


def test_cells_of_other_commands_in_the_folder_are_known(tmp_path: Path):
    """Not what merely lies there: a folder without a run, or a run that is no cell of any matrix."""
    matrix = Matrix(replace(JOB, out=tmp_path), (Cell("", "joint", 1),))
    for name in ("joint/seed1", "joint/seed2", "both-shuffled/bone/seed1", "acted-xsub-joint", "other/seed1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
    (tmp_path / "joint" / "seed3").mkdir()
    assert left_out_of(matrix) == ["both-shuffled/bone/seed1", "joint/seed2"]
