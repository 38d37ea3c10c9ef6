"""Transfer: a run of NTU120's joints and classes tested on other people, another camera, other names."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.io import savemat

from mmcl.cache.convert import convert
from mmcl.cache.skeletons import TEST, TRAIN, Skeletons, Split, read_skeletons, write_skeletons
from mmcl.cache.table import Ragged
from mmcl.pipeline.datasets.ntu_classes import CLASSES
from mmcl.pipeline.datasets.sysu import Sysu
from mmcl.pipeline.datasets.utd_mhad import NTU120_ACTIONS, UtdMhad
from mmcl.pipeline.preparation.dataset import RawDataset
from mmcl.pipeline.preparation.layouts import KINECT_V2, LAYOUTS
from mmcl.pipeline.preparation.prepare import prepare
from mmcl.tests.features import write_cache
from mmcl.tests.training import Watch, weights
from mmcl.trainer.config import Config
from mmcl.trainer.loop.checkpoint import save_weights
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.testing.transfer import TransferResult, evaluate_transfer
from mmcl.trainer.testing.transfer_report import transfer_class_table, transfer_table

REAL = Path(os.environ.get("MMCL_REAL_DATA", "absent"))
TINY = Config(split="xsub", width=8, window=16, crop_frames=16, batch=60, epochs=1, warmup=0, milestones=(), lr=0.05)
UTD_CLIPS = ((3, 1), (3, 2), (3, 3), (6, 1), (7, 2), (24, 3), (25, 4), (27, 5), (1, 1), (22, 2))  # action, subject
MAPPED_CLIPS = 8  # of them


def nothing(*_: object) -> None:
    pass


def noise(seed: int, frames: int, joints: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(frames, joints, 3)).astype(np.float32)


def acted(dataset: str = "ntu120", layout: str = "kinect-v2", split: Split | None = None) -> Skeletons:
    """A clip of each of 120 classes to train on, and two to test on; of one and of two bodies in turn."""
    labels = np.array([*range(120), 0, 1])
    bodies = np.array([1, 2] * 61)
    joints = Ragged.of([noise(i, 6 * count, len(LAYOUTS[layout].joints)) for i, count in enumerate(bodies)])
    split = split or Split(np.array([TRAIN] * 120 + [TEST] * 2, np.int8), "repeat")
    names = tuple(f"clip{i:03}" for i in range(122))
    return Skeletons(dataset, CLASSES, LAYOUTS[layout], names, labels, bodies, joints, {"xsub": split})


def trained(folder: Path, skeletons: Skeletons, config: Config = TINY) -> Path:
    data, out = folder / "ntu", folder / "run"
    data.mkdir(parents=True)
    write_skeletons(data / "skeletons.h5", skeletons)
    train(plan(Job(data, out, config, None)), out, Watch())
    return out


def prepared(name: str, raw: RawDataset, out: Path) -> Path:
    assert prepare(name, raw, out, nothing, jobs=1) is not None
    return out


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of NTU120's layout and classes, and UTD-MHAD and SYSU in little. Not to be changed."""
    folder = tmp_path_factory.mktemp("transfer")
    trained(folder, acted())
    for action, subject in UTD_CLIPS:
        file = folder / "raw-utd" / f"a{action}_s{subject}_t1_skeleton.mat"
        file.parent.mkdir(exist_ok=True)
        savemat(file, {"d_skel": noise(action * 10 + subject, 30, 20).transpose(1, 2, 0)})
    for action in range(1, 13):
        file = folder / "raw-sysu" / "person" / f"video{action}" / "sklWorld.mat"
        file.parent.mkdir(parents=True)
        savemat(file, {"SW": noise(action, 30, 20).transpose(1, 2, 0)})
    prepared("utd-mhad", UtdMhad(folder / "raw-utd"), folder / "utd")
    prepared("sysu", Sysu(folder / "raw-sysu"), folder / "sysu")
    return folder


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Path:
    """A test's own copy of the run."""
    return Path(shutil.copytree(shared / "run", tmp_path / "run"))


def changed(folder: Path, out: Path, **values: object) -> Path:
    """A copy of a data set with other values in its cache."""
    out.mkdir()
    write_skeletons(out / "skeletons.h5", replace(read_skeletons(folder / "skeletons.h5"), **values))
    return out


def with_scores(run: Path, data: Path, scores: np.ndarray) -> TransferResult:
    """The evaluation of a network that gives these scores."""
    with patch("mmcl.trainer.testing.transfer.score", lambda *_, **__: torch.tensor(scores, dtype=torch.float32)):
        return evaluate_transfer(run, data, nothing)


def shown(result: TransferResult) -> str:
    text = io.StringIO()
    console = Console(file=text, width=200)
    console.print(transfer_table(result))
    console.print(transfer_class_table(result))
    return text.getvalue()


def test_all_clips_of_mapped_classes_are_tested_whatever_their_split(run: Path, shared: Path):
    calls: list[tuple[int, int]] = []
    result = evaluate_transfer(run, shared / "utd", lambda *call: calls.append(call))
    assert result.metrics.clips == result.mapped.clips == MAPPED_CLIPS and calls[-1] == (MAPPED_CLIPS, MAPPED_CLIPS)
    found = np.load(run / "transfer-utd-mhad" / "scores.npz", allow_pickle=False)
    assert not {name.split("_")[0] for name in found["names"]} & {"a1", "a22"}
    wanted = [NTU120_ACTIONS["squat"] - 1 if name.startswith("a27") else None for name in found["names"]]
    assert [label for label, known in zip(found["labels"], wanted, strict=True) if known] == [79]
    assert found["scores"].shape == (MAPPED_CLIPS, 120)


def test_top_1_and_top_5_by_hand_in_both_ways_of_counting(run: Path, shared: Path):
    """Clips in order: a24 a25 a27 a3 a3 a3 a6 a7. Labels of the run: 8, 7, 79, 22, 22, 22, 95, 62."""
    scores = np.zeros((8, 120))
    right = [8, 7, 79, 22, 22, 22, 95, 62]
    scores[0, 8] = 9  # right both ways
    scores[1, [0, 7]] = 9, 8  # beaten by a class that is not mapped: right only among the mapped, and in the top 5
    scores[2, [0, 1, 2, 3, 4, 79]] = 9, 8, 7, 6, 5, 4  # sixth: not in the top 5, right among the mapped
    scores[3, [62, 22]] = 9, 8  # beaten by a mapped class: wrong both ways
    scores[4, 22] = 9
    scores[5, [62, 8, 7, 79, 95, 22]] = 9, 8, 7, 6, 5, 4  # last of the six mapped: in no top 5
    scores[6, 95] = 9
    scores[7, [100, 62]] = 9, 8
    result = with_scores(run, shared / "utd", scores)
    assert np.load(result.folder / "scores.npz")["labels"].tolist() == right
    assert (result.metrics.top1, result.metrics.top5) == (3 / 8, 6 / 8)
    assert (result.mapped.top1, result.mapped.top5) == (6 / 8, 7 / 8)
    lines = {line.name: line for line in result.classes}
    assert (lines["wave"].clips, lines["wave"].top1, lines["wave"].top1_mapped) == (3, 1 / 3, 1 / 3)
    assert (lines["wave"].mistaken_for, lines["wave"].mistakes) == ("shoot at the basket", 2)
    assert (lines["squat"].top1, lines["squat"].top1_mapped, lines["squat"].mistaken_for) == (0, 1, "drink water")
    summary = json.loads((result.folder / "results.json").read_text())
    shares = {"top1": 3 / 8, "top5": 6 / 8, "mean_class_accuracy": pytest.approx((1 + 0 + 0 + 1 / 3 + 1 + 0) / 6)}
    found = summary["all_classes"]
    assert {name: found[name] for name in ("clips", "competing", *shares)} == {"clips": 8, "competing": 120, **shares}
    assert found["top1_interval"] == [0.125, 0.75] and "bootstrap over the test clips" in found["intervals"]
    assert (summary["mapped_classes"]["competing"], summary["mapped_classes"]["top1"]) == (6, 6 / 8)
    text = shown(result)
    assert "all 120 classes compete, as in the paper" in text and "only the 6 mapped ones compete" in text
    rows = [line for line in text.splitlines() if "top-1 " in line or "top-5 " in line]
    assert "8" in rows[0] and "37.50% (12.5% to 75.0%)" in rows[0] and "75.00%" in rows[0] and "87.50%" in rows[1]


def test_two_of_the_classes_may_stand_for_one_of_the_runs(run: Path, shared: Path, tmp_path: Path):
    """A class of the run that two stand for competes once, and each of the two has a line."""
    skeletons = read_skeletons(shared / "utd" / "skeletons.h5")
    [transfer] = skeletons.transfers
    both = replace(transfer, classes={**transfer.classes, "arm cross": "hand waving"})
    data = changed(shared / "utd", tmp_path / "utd", transfers=(both,))
    scores = np.zeros((8, 120))
    scores[:, 22] = 1
    result = with_scores(run, data, scores)
    assert result.competing == 5 and result.metrics.top1 == 4 / 8
    assert {line.name: line.top1 for line in result.classes if line.trained_as == "hand waving"} == {
        "wave": 1,
        "arm cross": 1,
    }


def test_the_network_sees_converted_joints_bodies_and_frames_as_in_its_training(run: Path, shared: Path):
    """The scores are those of a cache that holds 25 joints and a second body, as NTU120's rule makes them."""
    result = evaluate_transfer(run, shared / "utd", nothing)
    given = np.load(result.folder / "scores.npz")["scores"]
    skeletons = read_skeletons(shared / "utd" / "skeletons.h5")
    rows = [row for row, label in enumerate(skeletons.labels) if skeletons.classes[label] in NTU120_ACTIONS]
    [transfer] = skeletons.transfers
    from mmcl.trainer.data.skeleton import body_of, pack
    from mmcl.trainer.loop.checkpoint import load_model
    from mmcl.trainer.testing.scoring import score

    doubled = [np.concatenate([convert(skeletons.joints[row], transfer.joints)] * 2) for row in rows]
    names = tuple(map(str, rows))
    by_hand = Skeletons(
        "by-hand", CLASSES, KINECT_V2, names, skeletons.labels[rows], np.full(8, 2), Ragged.of(doubled), {}
    )
    body = body_of(KINECT_V2, 2, "zero")
    model = load_model(run, result.run)
    wanted = score(model, pack(by_hand), np.arange(8), body=body, config=result.run.config)
    np.testing.assert_allclose(given, wanted.numpy(), atol=1e-4, rtol=1e-4)
    assert result.run.slots == 2 and result.run.body_rule == "repeat"


def test_notes_say_both_words_the_classes_who_chose_them_and_the_joints(run: Path, shared: Path):
    result = evaluate_transfer(run, shared / "utd", nothing)
    said = "\n".join(result.notes)
    for words in ("zero-shot", "domain-adaptive", "cross-dataset transfer", "epoch: last epoch", "FAM: none"):
        assert words in said
    assert "wave = hand waving; arm cross = cross arms" in said and "classes chosen by: the paper" in said
    assert "neck = 0.5 head + 0.5 shoulder centre" in said and "left hand tip = 1.5 left hand - 0.5 left wrist" in said
    assert "bodies: 2; absent ones repeat the first" in said and "data: not what was trained on" not in said
    summary = json.loads((result.folder / "results.json").read_text())
    assert summary["notes"] == result.notes and summary["classes"]["squat"] == "squat down"
    with (result.folder / "per_class.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sum(int(line["clips"]) for line in lines) == MAPPED_CLIPS and {line["kept"] for line in lines} == {
        "last epoch"
    }
    assert sorted(path.name for path in result.folder.iterdir()) == ["per_class.csv", "results.json", "scores.npz"]


def test_sysu_is_labelled_as_our_choice_and_its_top_5_says_nothing(run: Path, shared: Path):
    result = evaluate_transfer(run, shared / "sysu", nothing)
    assert result.metrics.clips == result.competing == 4 and result.mapped.top5 == 1
    assert any(note.startswith("classes chosen by: ours: the paper's choice is unpublished") for note in result.notes)
    assert "top-5 says nothing where 4 classes compete" in result.notes and "says nothing" in shown(result)
    assert result.folder == run / "transfer-sysu"


def test_a_run_of_60_classes_leaves_out_what_it_does_not_know_and_says_so(shared: Path, tmp_path: Path):
    skeletons = acted("ntu60")
    few = tuple(range(60))
    known = np.isin(skeletons.labels, few)
    split = Split(np.where(known, skeletons.splits["xsub"].sides, 0).astype(np.int8), "zero", few)
    run = trained(tmp_path, replace(skeletons, splits={"xsub": split}))
    result = evaluate_transfer(run, shared / "utd", nothing)
    assert result.left_out == ("arm cross", "basketball shoot", "squat")
    assert (result.metrics.clips, result.competing, len(result.run.classes)) == (5, 3, 60)
    said = "\n".join(result.notes)
    assert "left out, as the run has no such class: arm cross, basketball shoot, squat" in said
    assert "chosen for runs of ntu120; this one was trained on ntu60" in said
    assert "absent ones are zero" in said


def test_data_without_a_transfer_are_refused(run: Path, shared: Path):
    with pytest.raises(ValueError, match="ntu120: knows no transfer; utd-mhad and sysu do"):
        evaluate_transfer(run, shared / "ntu", nothing)


@pytest.mark.parametrize(("layout", "coordinates"), [("kinect-v1", "metres"), ("kinect-v2", "image")])
def test_a_run_of_other_joints_is_refused(shared: Path, tmp_path: Path, layout: str, coordinates: str):
    """Another layout, or poses in pictures."""
    skeletons = replace(acted("other", layout), coordinates=coordinates)
    run = trained(tmp_path, skeletons, replace(TINY, centre=False, rotation=(0, 0, 0)))
    trained_on = rf"trained on other \({layout} in {coordinates}\)"
    with pytest.raises(ValueError, match=trained_on + r"; utd-mhad tests runs of ntu120 \(kinect-v2 in metres\), so"):
        evaluate_transfer(run, shared / "utd", nothing)


def test_a_run_that_knows_none_of_the_classes_is_refused(run: Path, shared: Path):
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(described | {"classes": [f"class {i}" for i in range(120)]}))
    with pytest.raises(ValueError, match="none of its 120 classes is among hand waving, cross arms"):
        evaluate_transfer(run, shared / "utd", nothing)


def test_data_without_a_clip_of_a_mapped_class_are_refused(run: Path, shared: Path, tmp_path: Path):
    labels = np.zeros(len(UTD_CLIPS), np.int64)
    with pytest.raises(ValueError, match=r"utd-mhad: has no clip of wave, arm cross.*; prepare all of it"):
        evaluate_transfer(run, changed(shared / "utd", tmp_path / "utd", labels=labels), nothing)


def test_more_bodies_than_the_run_has_room_for_are_refused(run: Path, shared: Path, tmp_path: Path):
    bodies = np.full(len(UTD_CLIPS), 3)  # 30 frames: three bodies of ten
    with pytest.raises(ValueError, match="trained with room for 2 bodies, these clips have 3"):
        evaluate_transfer(run, changed(shared / "utd", tmp_path / "utd", bodies=bodies), nothing)


def test_an_unfinished_run_and_unknown_data_are_refused_and_nothing_is_written(run: Path, shared: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no skeleton cache here; make it with `mmcl prepare`"):
        evaluate_transfer(run, tmp_path / "absent", nothing)
    (run / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="training has not finished"):
        evaluate_transfer(run, shared / "utd", nothing)
    with pytest.raises(FileNotFoundError, match=r"no run here \(run.json is missing\)"):
        evaluate_transfer(tmp_path, shared / "utd", nothing)
    assert not list(run.glob("transfer-*"))


def test_a_data_set_named_as_a_path_writes_inside_the_run(run: Path, shared: Path, tmp_path: Path):
    data = changed(shared / "utd", tmp_path / "utd", dataset="../../elsewhere")
    assert evaluate_transfer(run, data, nothing).folder == run / "transfer-elsewhere"


# -- with the LLM at test time

ASKED = {"model": "llm", "fingerprint": "ab12", "prompt": "holding-object"}
NOT_SKELETON_ONLY = "with the LLM at test time: NOT skeleton-only"


@pytest.fixture(scope="module")
def refined(shared: Path) -> Path:
    """`shared` with another run, `taught`, that has FRM, and text features of all data but SYSU. Not to be changed."""
    for folder, dataset, images in (("ntu", "ntu120", "0123"), ("utd", "utd-mhad", "4567")):
        names = read_skeletons(shared / folder / "skeletons.h5").names
        values = np.random.default_rng(0).normal(size=(len(names), 5)).astype(np.float32)
        columns = {"prompt_feature": values}
        write_cache(shared / folder, names, columns, kind="text", dataset=dataset, person_images=images, **ASKED)
    [text] = (shared / "ntu" / "text").iterdir()
    train(plan(Job(shared / "ntu", shared / "taught", TINY, None, (text,))), shared / "taught", Watch())
    return shared


def test_scores_refined_by_an_llm_are_judged_in_both_ways_of_counting(refined: Path, tmp_path: Path):
    """By hand from the heads' tensors; matrices far from one, so that it matters."""
    run = Path(shutil.copytree(refined / "taught", tmp_path / "run"))
    with_matrices(run, np.random.default_rng(1).uniform(-3, 3, (2, 120)).astype(np.float32))
    alone = evaluate_transfer(run, refined / "utd", nothing)
    result = evaluate_transfer(run, refined / "utd", nothing, with_text=True)
    assert (alone.folder, result.folder) == (run / "transfer-utd-mhad", run / "transfer-utd-mhad-with-text")
    before, after = (np.load(folder / "scores.npz") for folder in (alone.folder, result.folder))
    assert after["names"].tolist() == before["names"].tolist() and after["labels"].tolist() == before["labels"].tolist()
    utd = read_skeletons(refined / "utd" / "skeletons.h5")
    text = np.random.default_rng(0).normal(size=(len(utd.names), 5)).astype(np.float32)
    own = np.array([text[utd.names.index(name)] for name in before["names"]])
    np.testing.assert_allclose(after["scores"], by_hand(run, before["scores"], own), rtol=1e-4, atol=1e-4)
    calls = after["scores"].argmax(1)
    assert (calls != before["scores"].argmax(1)).any()
    assert result.metrics.top1 == (calls == after["labels"]).mean()
    mapped = np.unique(after["labels"])
    assert result.mapped.top1 == (mapped[after["scores"][:, mapped].argmax(1)] == after["labels"]).mean()


def test_every_output_of_a_transfer_with_text_says_that_it_is_not_skeleton_only(refined: Path, tmp_path: Path):
    run = Path(shutil.copytree(refined / "taught", tmp_path / "run"))
    result = evaluate_transfer(run, refined / "utd", nothing, with_text=True)
    assert f"joint, {NOT_SKELETON_ONLY}" in shown(result) and "skeletons only" not in shown(result)
    summary = json.loads((result.folder / "results.json").read_text())
    assert summary["inputs"] == NOT_SKELETON_ONLY and summary["notes"][0] == NOT_SKELETON_ONLY
    assert (
        summary["kept"] == f"last epoch, {NOT_SKELETON_ONLY}" == str(np.load(result.folder / "scores.npz")["selection"])
    )
    assert (result.folder / "per_class.csv").read_text().count(NOT_SKELETON_ONLY) == len(result.classes)
    assert any(note.startswith("skeletons only, all 120 classes: top-1 ") for note in result.notes)
    assert any(
        note.startswith("person images: whether they were made as those of the training") for note in result.notes
    )
    alone = evaluate_transfer(run, refined / "utd", nothing)
    assert NOT_SKELETON_ONLY not in (alone.folder / "results.json").read_text() and "skeletons only" in shown(alone)


def test_a_data_set_without_such_text_features_is_told_the_command_that_makes_them(refined: Path, tmp_path: Path):
    run = Path(shutil.copytree(refined / "taught", tmp_path / "run"))
    said = r"sysu: no text cache that was made as the run's \w{12}; make it with `mmcl extract-features \S+/sysu "
    with pytest.raises(ValueError, match=said + "--videos VIDEOS --llm llm --prompt holding-object`"):
        evaluate_transfer(run, refined / "sysu", nothing, with_text=True)
    assert not (run / "transfer-sysu-with-text").exists()


def by_hand(run: Path, scores: np.ndarray, text: np.ndarray) -> np.ndarray:
    """S_M * (g_0 Pos + g_1 Neg) of heads.safetensors, in float64."""
    head = {name.removeprefix("refine."): value.double().numpy() for name, value in weights(run, "heads").items()}
    x = (text - head["standardise.mean"]) / head["standardise.deviation"]
    hidden = np.maximum(x @ head["gate.0.weight"].T + head["gate.0.bias"], 0)
    gate = np.exp(hidden @ head["gate.2.weight"].T + head["gate.2.bias"])
    return scores * (gate / gate.sum(1, keepdims=True) @ head["matrices"])


def with_matrices(run: Path, matrices: np.ndarray) -> None:
    """The run's heads with other Pos and Neg."""
    changed_heads = weights(run, "heads") | {"refine.matrices": torch.from_numpy(matrices)}
    save_weights(run, {"heads": changed_heads, "model": weights(run)})


@pytest.mark.skipif(not REAL.is_dir(), reason="MMCL_REAL_DATA names no folder with nw_ucla and utd_mhad")
def test_utd_mhad_has_the_papers_191_clips(run: Path, tmp_path: Path):
    result = evaluate_transfer(run, prepared("utd-mhad", UtdMhad(REAL / "utd_mhad"), tmp_path / "utd"), nothing)
    assert result.metrics.clips == 191
    assert {line.name: line.clips for line in result.classes} == {
        "wave": 32,
        "arm cross": 32,
        "basketball shoot": 32,
        "sit to stand": 32,
        "stand to sit": 32,
        "squat": 31,
    }
