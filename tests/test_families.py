"""The contract that every family of language models in the table keeps, on a tiny repository of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from mmcl.pipeline.encoders.checkpoint import quiet
from mmcl.pipeline.encoders.encoder import ENCODERS, Encoder
from mmcl.pipeline.encoders.families import (
    KNOWN_NOT_TO_WORK,
    LLM_FAMILIES,
    RGB_FAMILIES,
    TORCHVISION_LLM_TYPES,
    TRIED_LLM_TYPES,
)
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.tests.families import build
from mmcl.tests.repository import Repository

QUESTION = PROMPTS["touching-head"]
SIZES = [(48, 48), (48, 96), (96, 48), (64, 64), (32, 80), (48, 48)]


@dataclass(frozen=True)
class Made:
    repository: Repository
    folder: Path
    encoder: Any
    prepared: Any
    columns: dict[str, np.ndarray]


def asked(folder: Path) -> Encoder:
    return ENCODERS["text"](str(folder), device="cpu", prompts=[QUESTION])[0]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Six pictures of coarse noise, of five sizes."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (height // 8, width // 8, 3)) for height, width in SIZES]
    return [np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8) for coarse in noise]


@pytest.fixture(scope="module", params=LLM_FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, images) -> Made:
    repository = build(request.param.name)
    assert repository.model.config.model_type in request.param.types
    folder = repository.save(tmp_path_factory.mktemp("hub") / request.param.name)
    encoder = asked(folder)
    prepared = encoder.prepare(images)
    return Made(repository, folder, encoder, prepared, encoder.encode(prepared))


def test_the_model_is_asked_the_question(family: Made):
    for row in family.prepared["input_ids"]:
        said = family.repository.tokenizer.decode(row)
        assert "touching head" in said.replace(" .", ".")


def test_a_padded_batch_gives_each_clip_what_it_gets_alone(family: Made, images: list[np.ndarray]):
    rows = [family.encoder.encode(family.encoder.prepare([image])) for image in images]
    for name, column in family.columns.items():
        alone = np.concatenate([row[name] for row in rows])
        if column.dtype == np.float32:
            np.testing.assert_allclose(column, alone, atol=2e-5)
        else:
            np.testing.assert_array_equal(column, alone)


def test_the_batch_above_is_padded_and_its_answers_are_different_and_of_different_lengths(family: Made):
    padding = family.prepared["attention_mask"] == 0
    assert bool(padding.any()) == family.repository.by_size
    assert len(set((family.columns["answer_ids"] >= 0).sum(1))) > 1
    assert len({row.tobytes() for row in family.columns["answer_ids"]}) > 2
    assert len(np.unique(family.columns["probabilities"][:, 0])) == len(SIZES)


def test_numbers_are_those_of_the_plain_model(family: Made):
    """Its last hidden states under each step of plain `generate`, and the softmax over its first step."""
    states, ids, logits = _plain(family)
    ends = family.repository.tokenizer.convert_tokens_to_ids(list(family.repository.ends))
    live = torch.isin(ids, torch.tensor(ends)).cumsum(1) == 0
    live[:, 0] = True  # an answer that ends at once keeps its first state
    mean = (states * live[..., None]).sum(1) / live.sum(1, keepdim=True)
    np.testing.assert_allclose(family.columns["prompt_feature"], states[:, 0], atol=1e-5)
    np.testing.assert_allclose(family.columns["answer_feature"], mean, atol=1e-5)

    belief, words = logits.softmax(-1), family.repository.tokenizer.get_vocab()
    spelt = [[token for word, token in words.items() if word.lower() == said] for said in QUESTION.candidates]
    each = torch.stack([belief[:, tokens].sum(1) for tokens in spelt], 1)
    np.testing.assert_allclose(family.columns["mass"], each.sum(1), rtol=1e-4)
    np.testing.assert_allclose(family.columns["probabilities"], each / each.sum(1, keepdim=True), rtol=1e-4)


@torch.inference_mode()
def _plain(family: Made) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """States [N, L, D] as they enter the output layer, ids [N, L] and first logits [N, V]."""
    with quiet():
        plain = type(family.repository.model).from_pretrained(family.folder)
        made = plain.generate(
            **family.prepared,
            max_new_tokens=family.encoder.settings["max_new_tokens"],
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            output_hidden_states=True,
        )
    steps = getattr(made, "decoder_hidden_states", None) or made.hidden_states
    states = torch.stack([step[-1][:, -1] for step in steps], 1)
    return family.repository.entering(plain, states), made.sequences[:, -len(steps) :], made.logits[0]


def test_every_file_of_the_repository_is_in_the_key(family: Made, tmp_path: Path):
    """Weights, config, generation config, tokenizer, preprocessing, processor and chat template."""
    copy = shutil.copytree(family.folder, tmp_path / family.folder.name)
    assert asked(copy).settings == family.encoder.settings
    files = {path for path in copy.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= {f.name for f in files}
    for file in sorted(files):
        before = file.read_bytes()
        if file.suffix == ".safetensors":
            weights = load_file(file)
            weights[next(iter(weights))] += 1
            save_file(weights, file, {"format": "pt"})
        else:
            file.write_bytes(before + b" ")
        assert asked(copy).settings != family.encoder.settings, file.name
        file.write_bytes(before)


def test_weights_of_another_class_are_refused_before_they_are_loaded(family: Made, tmp_path: Path):
    copy = shutil.copytree(family.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    said = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(said | {"architectures": ["SomethingForImageTextRetrieval"]}))
    with pytest.raises(ValueError, match="copy: holds a SomethingForImageTextRetrieval, which loads only as"):
        asked(copy)


def test_missing_weights_are_refused(family: Made, tmp_path: Path):
    copy = shutil.copytree(family.folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    lost = next(name for name in weights if "layer" in name and name.endswith("weight"))
    save_file(
        {name: one for name, one in weights.items() if name != lost}, copy / "model.safetensors", {"format": "pt"}
    )
    encoder = asked(copy)
    with pytest.raises(ValueError, match="copy: 1 weights are missing or of another shape"):
        encoder.encode(family.prepared)


# -- the table


def test_a_type_is_named_once_and_is_one_of_transformers():
    for families in (LLM_FAMILIES, RGB_FAMILIES):
        types = [one for family in families for one in family.types]
        assert len(set(types)) == len(types)
        assert not set(types) - set(transformers.CONFIG_MAPPING)
    assert not {name for name, _ in KNOWN_NOT_TO_WORK} & {one for family in LLM_FAMILIES for one in family.types}


@pytest.mark.parametrize(("name", "reason"), KNOWN_NOT_TO_WORK, ids=lambda said: said.split()[0])
def test_what_is_known_not_to_work_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(ValueError, match=f"{name} is known not to work: {reason}"):
        asked(tmp_path)


def test_types_that_need_torchvision_have_no_preprocessing_without_it():
    for name in TORCHVISION_LLM_TYPES:
        assert name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        by_pil = "pil" in IMAGE_PROCESSOR_MAPPING_NAMES[name]
        assert not by_pil or name == "mistral3"  # whose processor, and not its image processor, needs torchvision


def test_a_type_that_was_tried_is_in_no_other_list():
    named = {one for family in LLM_FAMILIES for one in family.types} | {name for name, _ in KNOWN_NOT_TO_WORK}
    assert not set(TRIED_LLM_TYPES) & (named | set(TORCHVISION_LLM_TYPES))
    assert set(TRIED_LLM_TYPES) <= set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
