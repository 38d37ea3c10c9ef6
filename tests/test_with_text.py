"""S_R at test time: the run's FRM on the text features of tested clips, against a count by hand; what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmcl.cache.recipe import Recipe, read_recipe
from mmcl.cache.skeletons import TEST, Skeletons, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache
from mmcl.tests.features import write_cache
from mmcl.tests.training import Watch, weights
from mmcl.trainer.config import Config
from mmcl.trainer.loop.checkpoint import save_weights
from mmcl.trainer.loop.train import train
from mmcl.trainer.plan import Job, plan
from mmcl.trainer.run import read_run
from mmcl.trainer.testing.with_text import refined_scores

CONFIG = Config(split="xsub", width=8, window=16, crop_frames=16, batch=4, epochs=1, warmup=0, milestones=(), lr=0.05)
PROMPTS = ("holding-object", "touching-head")
D = 5  # numbers of a column


def values_of(column: str, prompt: str, clips: int) -> np.ndarray:
    """The made-up features [clips, D] of one prompt, constant in their last number."""
    seed = sum(map(ord, column + prompt))
    found = np.random.default_rng(seed).normal(3, 2, (clips, D)).astype(np.float32)
    found[:, -1] = 7
    return found


def write_text(data: Path, prompt: str = PROMPTS[0], **more: Any) -> Path:
    """A text cache of all clips, in another order than the skeletons; `failed` names clips without features."""
    skeletons = read_skeletons(data / "skeletons.h5")
    order = np.random.default_rng(1).permutation(len(skeletons.names))
    columns = {name: values_of(name, prompt, len(order))[order] for name in ("prompt_feature", "answer_feature")}
    asked = {"model": "llm", "fingerprint": "ab12", "prompt": prompt, "person_images": "0123"}
    names = [skeletons.names[row] for row in order]
    return write_cache(data, names, columns, kind="text", **({"dataset": skeletons.dataset} | asked | more))


def taught(data: Path, out: Path, config: Config = CONFIG, text: tuple[Path, ...] = ()) -> Path:
    """A run with FRM whose matrices are then put far from one, so that they matter."""
    train(plan(Job(data, out, config, None, text)), out, Watch())
    heads = weights(out, "heads")
    generator = torch.Generator().manual_seed(1)
    heads["refine.matrices"] = 4 * torch.rand(heads["refine.matrices"].shape, generator=generator) - 2
    save_weights(out, {"heads": heads, "model": weights(out)})
    return out


@pytest.fixture(scope="module")
def shared(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `acted`, two text caches in it, and a `run` trained with both. Not to be changed."""
    folder = tmp_path_factory.mktemp("text")
    data = Path(shutil.copytree(prepared, folder / "acted"))
    taught(data, folder / "run", text=tuple(write_text(data, prompt) for prompt in PROMPTS))
    return folder


@pytest.fixture
def own(shared: Path, tmp_path: Path) -> Path:
    """A test's own copy of it."""
    return Path(shutil.copytree(shared, tmp_path / "own"))


def refine(folder: Path, data: Path | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """S_M, which are made up, S_R, and the notes, of the test clips of `data`."""
    data = data or folder / "acted"
    skeletons, rows = of_test(data)
    scores = np.random.default_rng(9).normal(size=(len(rows), 6)).astype(np.float32)
    refined, notes = refined_scores(folder / "run", read_run(folder / "run"), scores, skeletons, rows, data)
    assert refined.dtype == np.float32 and refined.shape == scores.shape
    return scores, refined, notes


def of_test(data: Path) -> tuple[Skeletons, np.ndarray]:
    skeletons = read_skeletons(data / "skeletons.h5")
    return skeletons, skeletons.rows("xsub", TEST)


def by_hand(run: Path, scores: np.ndarray, text: np.ndarray) -> np.ndarray:
    """S_M * (g_0 Pos + g_1 Neg) with the tensors of heads.safetensors, in float64 (MMCL, eq. of S_R)."""
    found = load_file(run / "heads.safetensors")
    head = {name.removeprefix("refine."): value.double().numpy() for name, value in found.items()}
    x = (text - head["standardise.mean"]) / head["standardise.deviation"]
    hidden = np.maximum(x @ head["gate.0.weight"].T + head["gate.0.bias"], 0)
    gate = np.exp(hidden @ head["gate.2.weight"].T + head["gate.2.bias"])
    return scores * (gate / gate.sum(1, keepdims=True) @ head["matrices"])


def text_by_hand(data: Path, prompts: tuple[str, ...] = PROMPTS) -> np.ndarray:
    """The features of the test clips, prompt after prompt, the prompt's feature before the answer's."""
    skeletons, rows = of_test(data)
    columns = [(c, p) for p in prompts for c in ("prompt_feature", "answer_feature")]
    return np.concatenate([values_of(c, p, len(skeletons.names))[rows] for c, p in columns], axis=1)


def test_the_refined_scores_are_those_of_a_count_by_hand(own: Path):
    """Two prompts end to end; rows are found by name; a constant number of the features counts for nothing."""
    scores, refined, notes = refine(own)
    np.testing.assert_allclose(refined, by_hand(own / "run", scores, text_by_hand(own / "acted")), rtol=1e-4, atol=1e-5)
    assert (refined.argmax(1) != scores.argmax(1)).any()
    said = [note for note in notes if note.startswith("text features: ")]
    assert len(said) == 2 and "llm, prompt holding-object" in said[0] and "llm, prompt touching-head" in said[1]


def test_clips_without_text_features_keep_their_scores_and_are_counted(own: Path):
    skeletons, rows = of_test(own / "acted")
    failed = [skeletons.names[row] for row in rows[[2, 5]]]
    shutil.rmtree(own / "acted" / "text")
    write_text(own / "acted", PROMPTS[0], failed=failed[:1])
    write_text(own / "acted", PROMPTS[1], failed=failed[1:])
    scores, refined, notes = refine(own)
    kept = [2, 5]
    np.testing.assert_array_equal(refined[kept], scores[kept])
    others = np.setdiff1d(np.arange(len(rows)), kept)
    wanted = by_hand(own / "run", scores, text_by_hand(own / "acted"))
    np.testing.assert_allclose(refined[others], wanted[others], rtol=1e-4, atol=1e-5)
    assert "2 of 12 clips have no text features and keep S_M" in notes


def test_a_run_without_frm_has_nothing_to_refine(own: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(own / "acted", other / "acted")
    train(plan(Job(other / "acted", other / "run", CONFIG, None)), other / "run", Watch())
    with pytest.raises(ValueError, match="run: trained without FRM, so no LLM can refine its scores; test it without"):
        refine(other)


def test_heads_that_are_gone_damaged_or_anothers_are_refused(own: Path):
    path = own / "run" / "heads.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ValueError, match=r"heads\.safetensors: damaged \(its numbers are not .*model.safetensors away"):
        refine(own)
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"heads\.safetensors: damaged"):
        refine(own)
    found = weights_of(whole, path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"heads\.safetensors: not there, and S_R needs its FRM; bring it back"):
        refine(own)
    for changed in ({"align.x": torch.zeros(2)}, found | {"refine.matrices": torch.ones(2, 7)}):
        save_weights(own / "run", {"heads": changed, "model": {}})
        with pytest.raises(ValueError, match=r"heads\.safetensors: no FRM of 6 classes \("):
            refine(own)


def weights_of(whole: bytes, path: Path) -> dict[str, torch.Tensor]:
    path.write_bytes(whole)
    return load_file(path)


def test_a_cache_that_is_not_there_is_named_with_the_command_that_makes_it(own: Path):
    shutil.rmtree(own / "acted" / "text")
    command = f"mmcl extract-features {own / 'acted'} --videos VIDEOS --llm llm --prompt holding-object"
    with pytest.raises(ValueError, match=rf"make it with `{re.escape(command)}`, llm with its path$"):
        refine(own)
    create_cache(own / "acted", Recipe("person-images", "acted", {"person": "frame", "layout": "strip"}))
    with pytest.raises(ValueError, match=re.escape(command.replace("--videos VIDEOS ", ""))):
        refine(own)


@pytest.mark.parametrize("changed", [{"fingerprint": "cd34"}, {"person_images": "4567"}, {"dtype": "bfloat16"}])
def test_a_cache_made_otherwise_is_refused_with_what_differs(own: Path, changed: dict[str, str]):
    """Another checkpoint of the name, other person images, another precision: FRM was trained on none of them."""
    shutil.rmtree(own / "acted" / "text")
    for prompt in PROMPTS:
        write_text(own / "acted", prompt, **changed)
    [(name, value)] = changed.items()
    there = {"fingerprint": '"ab12"', "person_images": '"0123"', "dtype": "-"}[name]
    with pytest.raises(ValueError, match=rf'differs:\n  {name}: found "{value}", wanted {there}$'):
        refine(own)


def test_another_prompts_features_are_no_substitute(own: Path):
    [folder] = [f for f in (own / "acted" / "text").iterdir() if read_recipe(f).prompt == PROMPTS[0]]
    shutil.rmtree(folder)
    with pytest.raises(
        ValueError, match=r"no text cache that was made as the run's \w{12}; .* holding-object`, llm with its path$"
    ):
        refine(own)


def test_damaged_rows_of_tested_clips_are_refused_and_those_of_others_are_not(own: Path):
    skeletons, rows = of_test(own / "acted")
    [folder] = [f for f in (own / "acted" / "text").iterdir() if read_recipe(f).prompt == PROMPTS[1]]
    values = values_of("answer_feature", PROMPTS[1], len(skeletons.names))
    turn_a_bit(folder / "cache.h5", values[next(row for row in range(24) if row not in rows)])
    refine(own)
    turn_a_bit(folder / "cache.h5", values[rows[3]])
    with pytest.raises(ValueError, match=rf"damaged rows for 1 test clip \({skeletons.names[rows[3]]}\); move it away"):
        refine(own)


def turn_a_bit(path: Path, row: np.ndarray) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(row.tobytes())] ^= 1
    path.write_bytes(content)


def test_clips_that_were_never_extracted_and_a_cache_under_way_are_refused(own: Path):
    """A cache of fewer clips grows by the same command; nothing is said to be refined that was not."""
    data = own / "acted"
    skeletons, rows = of_test(data)
    shutil.rmtree(data / "text")
    few = replace_names(data, [name for name in skeletons.names if name != skeletons.names[rows[0]]])
    for prompt in PROMPTS:
        write_text(few, prompt)
    shutil.copytree(few / "text", data / "text")
    with pytest.raises(ValueError, match=rf"no row for 1 test clip \({skeletons.names[rows[0]]}\); run the same extr"):
        refine(own)
    for cache in (data / "text").glob("*/cache.h5"):
        cache.unlink()
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again, it resumes"):
        refine(own)


def replace_names(data: Path, names: list[str]) -> Path:
    """A data set of some of the clips, without features."""
    skeletons = read_skeletons(data / "skeletons.h5")
    rows = [skeletons.names.index(name) for name in names]
    folder = data.parent / "few"
    folder.mkdir()
    fewer = replace(
        skeletons,
        names=tuple(names),
        labels=skeletons.labels[rows],
        bodies=skeletons.bodies[rows],
        joints=skeletons.joints.of([skeletons.joints[row] for row in rows]),
        splits={name: replace(split, sides=split.sides[rows]) for name, split in skeletons.splits.items()},
        columns={},
        image_points=None,
    )
    write_skeletons(folder / "skeletons.h5", fewer)
    return folder


def test_numbers_that_are_none_are_refused(own: Path, monkeypatch: pytest.MonkeyPatch):
    skeletons, rows = of_test(own / "acted")
    shutil.rmtree(own / "acted" / "text")
    name, usual = skeletons.names[rows[1]], values_of

    def infinite(column: str, prompt: str, clips: int) -> np.ndarray:
        found = usual(column, prompt, clips)
        found[rows[1], 0] = np.inf
        return found

    monkeypatch.setattr(f"{__name__}.values_of", infinite)
    for prompt in PROMPTS:
        write_text(own / "acted", prompt)
    with pytest.raises(ValueError, match=rf"NaN or Inf in 1 test clip \({name}\); extract again"):
        refine(own)


# -- another data set


def elsewhere(own: Path, change: Callable[[Skeletons], Skeletons] = lambda found: found) -> Path:
    """The same clips as another data set, in `own`/other, without features."""
    (own / "other").mkdir()
    skeletons = replace(read_skeletons(own / "acted" / "skeletons.h5"), dataset="other")
    write_skeletons(own / "other" / "skeletons.h5", change(skeletons))
    return own / "other"


def person_images(data: Path, **settings: str) -> str:
    """A person-image recipe in a data set's folder; its key."""
    dataset = read_skeletons(data / "skeletons.h5").dataset
    return create_cache(data, Recipe("person-images", dataset, {"layout": "strip", "videos": "{name}"} | settings)).name


def test_another_data_set_has_features_of_its_own_person_images(own: Path):
    """Its recipe differs in them of necessity, and in nothing else; what is known of them is said."""
    other = elsewhere(own)
    for prompt in PROMPTS:
        write_text(other, prompt, person_images="4567")
    scores, refined, notes = refine(own, other)
    np.testing.assert_allclose(refined, by_hand(own / "run", scores, text_by_hand(other)), rtol=1e-4, atol=1e-5)
    assert notes.count("person images: whether they were made as those of the training is not known any more") == 2
    write_text(other, PROMPTS[0], person_images="89ab")
    with pytest.raises(ValueError, match=r"other: 2 text caches fit \(\w{12}, \w{12}\); move all but one out of it"):
        refine(own, other)


def test_features_of_another_data_sets_clips_are_not_taken(own: Path):
    """Even where they lie in the folder and their clips have the same names."""
    other = elsewhere(own)
    for prompt in PROMPTS:
        write_text(other, prompt, dataset="acted")
    with pytest.raises(ValueError, match=r"other: no text cache that was made as the run's"):
        refine(own, other)


def test_person_images_of_another_person_are_noted_and_of_another_layout_refused(own: Path, tmp_path: Path):
    data = own / "acted"
    shutil.rmtree(data / "text")
    key = person_images(data, person="skeleton")
    shutil.rmtree(own / "run")
    taught(data, own / "run", text=(write_text(data, PROMPTS[0], person_images=key),))
    other = elsewhere(own)
    text = write_text(other, PROMPTS[0], person_images=person_images(other, person="frame"))
    assert refine(own, other)[2][-1] == "person images: person skeleton in training, frame here"
    shutil.rmtree(text)
    write_text(other, PROMPTS[0], person_images=person_images(other, layout="single", person="frame"))
    said = r'made from other person images than the training.s\n(.*\n)*  layout: found "single", wanted "strip"'
    with pytest.raises(ValueError, match=said):
        refine(own, other)


# -- the controls


def test_constant_features_refine_with_the_mean_that_was_trained_on(own: Path):
    """No text cache is read: it may be gone. The gate is the same for all clips."""
    data = own / "acted"
    text = tuple((data / "text").iterdir())
    shutil.rmtree(own / "run")
    taught(data, own / "run", replace(CONFIG, features="constant"), text)
    shutil.rmtree(data / "text")
    scores, refined, notes = refine(own)
    mean = load_file(own / "run" / "heads.safetensors")["refine.standardise.mean"].numpy()
    np.testing.assert_allclose(refined, by_hand(own / "run", scores, mean[None]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(refined / scores, np.broadcast_to(refined[:1] / scores[:1], scores.shape), rtol=1e-4)
    assert "CONTROL: FRM is given the mean of the training clips, as in training; no text cache is read" in notes


def test_shuffled_features_are_each_clips_own_at_test_time(own: Path):
    data = own / "acted"
    text = tuple(sorted((data / "text").iterdir(), key=lambda folder: read_recipe(folder).prompt))
    shutil.rmtree(own / "run")
    taught(data, own / "run", replace(CONFIG, features="shuffled"), text)
    scores, refined, notes = refine(own)
    np.testing.assert_allclose(refined, by_hand(own / "run", scores, text_by_hand(data)), rtol=1e-4, atol=1e-5)
    assert "CONTROL: FRM was trained on the features of other clips; here each clip has its own" in notes


def test_the_mean_of_token_ids_is_not_kept_and_so_refused(own: Path):
    described = json.loads((own / "run" / "run.json").read_text())
    described["config"] |= {"features": "constant", "refine_features": ["answer_ids"]}
    (own / "run" / "run.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="run: trained on the mean of token ids, which is not kept; test it without"):
        refine(own)


def test_token_ids_go_in_as_they_were_trained_on(own: Path, tmp_path: Path):
    """Three of them, -1 behind the end as 0, not standardised."""
    data = own / "acted"
    skeletons, rows = of_test(data)
    ids = np.random.default_rng(3).integers(-1, 9, (24, 16)).astype(np.int32)
    shutil.rmtree(data / "text")
    text = write_cache(data, skeletons.names, {"answer_ids": ids}, kind="text", prompt="holding-object")
    shutil.rmtree(own / "run")
    taught(data, own / "run", replace(CONFIG, refine_features=("answer_ids",)), (text,))
    scores, refined, _ = refine(own)
    given = np.maximum(ids[rows, :3], 0)
    np.testing.assert_allclose(refined, by_hand(own / "run", scores, given), rtol=1e-4, atol=1e-5)
