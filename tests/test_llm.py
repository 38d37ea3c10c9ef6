"""Language models: what one question gives, what it is known by, when weights are loaded, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers.models.smolvlm import processing_smolvlm
from transformers.utils import is_torchvision_available

from mmcl.pipeline.encoders import checkpoint, llm, processor
from mmcl.pipeline.encoders.checkpoint import Checkpoint, find_checkpoint
from mmcl.pipeline.encoders.encoder import ENCODERS
from mmcl.pipeline.encoders.prompts import PROMPTS, Prompt
from mmcl.tests.families import build

QUESTION, DESCRIPTION = PROMPTS["touching-head"], PROMPTS["describe-person"]
without_torchvision = pytest.mark.skipif(is_torchvision_available(), reason="says what happens without torchvision")


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    return models


def asked(folder: Path, prompt: Prompt = QUESTION, device: str = "cpu") -> llm.TextEncoder:
    return llm.load(str(folder), device, [prompt])[0]


def answered(folder: Path, images: list[np.ndarray], prompt: Prompt = QUESTION, device: str = "cpu") -> dict:
    encoder = asked(folder, prompt, device)
    return encoder.encode(encoder.prepare(images))


def says(file: Path, **said: object) -> None:
    """Changes what a JSON file says."""
    file.write_text(json.dumps(json.loads(file.read_text()) | said))


def test_columns_have_the_promised_types_and_shapes(tiny: Path, images: list[np.ndarray]):
    columns = answered(tiny / "tiny-llava", images)
    assert {name: (column.dtype.str, column.shape) for name, column in columns.items()} == {
        "prompt_feature": ("<f4", (6, 32)),
        "answer_feature": ("<f4", (6, 32)),
        "probabilities": ("<f4", (6, 2)),
        "mass": ("<f4", (6,)),
        "answer_ids": ("<i4", (6, llm.MAX_NEW_TOKENS)),
        "answer_text": ("|S256", (6,)),
    }
    np.testing.assert_allclose(columns["probabilities"].sum(1), 1, rtol=1e-6)


def test_a_description_has_no_probabilities(tiny: Path, images: list[np.ndarray]):
    assert not answered(tiny / "tiny-llava", images, DESCRIPTION).keys() & {"probabilities", "mass"}


def test_an_encoder_needs_the_layout_that_its_prompt_is_about(tiny: Path):
    encoders = llm.load(str(tiny / "tiny-llava"), "cpu", [QUESTION, DESCRIPTION])
    assert [encoder.layout for encoder in encoders] == ["strip", "single"]


def test_the_prompt_feature_is_the_plain_models_last_hidden_state(tiny: Path, images: list[np.ndarray]):
    """The question is written out by hand here, and nothing of the product is used."""
    plain = transformers.LlavaForConditionalGeneration.from_pretrained(tiny / "tiny-llava")
    prepare = transformers.AutoProcessor.from_pretrained(tiny / "tiny-llava")
    pictures = [Image.fromarray(image) for image in images]
    inputs = prepare(images=pictures, text=[f"user: <image> {QUESTION.text} assistant:"] * 6, return_tensors="pt")
    with torch.inference_mode():
        states = plain(**inputs, output_hidden_states=True).hidden_states[-1][:, -1]
    feature = answered(tiny / "tiny-llava", images)["prompt_feature"]
    np.testing.assert_allclose(feature, states.numpy(), atol=1e-5)


def test_a_chat_template_may_be_the_tokenizers(tiny: Path, tmp_path: Path, images: list[np.ndarray]):
    copy = shutil.copytree(tiny / "tiny-llava", tmp_path / "copy")
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    says(copy / "tokenizer_config.json", chat_template=template)
    feature = answered(copy, images)["prompt_feature"]
    np.testing.assert_array_equal(feature, answered(tiny / "tiny-llava", images)["prompt_feature"])


def test_the_answer_feature_is_the_mean_of_the_live_steps_only():
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [100.0], [100.0]]])
    live = torch.tensor([[True, True, False], [False, False, False]])
    answers = llm.Answers(states, torch.zeros(2, 3), live, torch.zeros(2, 9))
    assert llm.mean_state(answers).tolist() == [[2.0], [5.0]]


def test_answer_text_is_cut_between_characters():
    assert llm.clip_text("é" * 200).decode() == "é" * 128
    assert llm.clip_text("x" + "é" * 200).decode() == "x" + "é" * 127


# -- candidates


def test_a_candidate_is_believed_in_as_much_as_in_all_its_spellings(tiny: Path, images: list[np.ndarray]):
    parts = Prompt("own", QUESTION.text, ("head", "hand", "foot"))
    joined = Prompt("own", QUESTION.text, ("above", "below"), spellings=(("head", "hand"), ("foot",)))
    apart, together = (answered(tiny / "tiny-llava", images, prompt) for prompt in (parts, joined))
    np.testing.assert_allclose(together["mass"], apart["mass"], rtol=1e-5)
    expected = apart["probabilities"][:, :2].sum(1)
    np.testing.assert_allclose(together["probabilities"][:, 0], expected, rtol=1e-5)


def test_a_word_of_several_tokens_cannot_be_a_candidate(tiny: Path):
    with pytest.raises(ValueError, match="tiny-llava: no single token says 'perhaps' or 'maybe', so"):
        asked(tiny / "tiny-llava", Prompt("own", "What?", ("yes", "other"), spellings=(("yes",), ("perhaps", "maybe"))))


def test_two_candidates_that_one_token_says_are_refused(tiny: Path):
    """BERT's tokenizer knows no accents."""
    with pytest.raises(ValueError, match="tiny-blip-vqa: one token says two of hand, händ"):
        asked(tiny / "tiny-blip-vqa", Prompt("own", "What?", ("hand", "händ")))


# -- weights and devices


def test_settings_are_known_and_images_prepared_without_the_weights(tiny: Path, images, monkeypatch):
    monkeypatch.setattr(Checkpoint, "load", lambda *_, **__: 1 / 0)
    encoder = asked(tiny / "tiny-llava")
    assert encoder.settings["architecture"] == "LlavaForConditionalGeneration"
    prepared = encoder.prepare(images)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(prepared)


def test_prompts_share_one_model_that_is_loaded_once(tiny: Path, images: list[np.ndarray], monkeypatch):
    loaded, load = [], Checkpoint.load
    monkeypatch.setattr(Checkpoint, "load", lambda *said, **more: loaded.append(said) or load(*said, **more))
    for encoder in llm.load(str(tiny / "tiny-llava"), "cpu", [QUESTION, DESCRIPTION]):
        encoder.encode(encoder.prepare(images))
        encoder.encode(encoder.prepare(images))
    assert len(loaded) == 1


def test_a_model_that_is_spread_by_itself_gives_the_same_numbers(tiny: Path, images: list[np.ndarray]):
    spread, whole = (answered(tiny / "tiny-llava", images, device=device) for device in ("auto", "cpu"))
    np.testing.assert_array_equal(spread["answer_feature"], whole["answer_feature"])


def test_half_the_precision_is_used_on_an_accelerator_only_and_is_in_the_key(tiny: Path, monkeypatch):
    said = {device: asked(tiny / "tiny-llava", device=device).settings for device in ("cpu", "cuda", "cuda:1")}
    assert {device: settings["dtype"] for device, settings in said.items()} == {
        "cpu": "float32",
        "cuda": "bfloat16",
        "cuda:1": "bfloat16",
    }
    for there, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda there=there: there)
        assert llm.dtype_on("auto") == dtype


def test_what_goes_to_a_gpu_is_pinned_in_its_precision(tiny: Path, images: list[np.ndarray], monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.dtype) or tensor)
    assert asked(tiny / "tiny-llava").prepare(images)["pixel_values"].dtype == torch.float32
    assert not pinned
    assert asked(tiny / "tiny-llava", device="cuda").prepare(images)["pixel_values"].dtype == torch.bfloat16
    assert set(pinned) == {torch.bfloat16, torch.int64}


def test_nothing_stays_on_the_model_when_generation_fails(tiny: Path, images: list[np.ndarray], monkeypatch):
    encoder = asked(tiny / "tiny-llava")
    head = encoder.llm.model.get_output_embeddings()
    monkeypatch.setattr(encoder.llm.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(encoder.prepare(images))
    assert not head._forward_pre_hooks


# -- settings


def test_settings_stay_when_a_folder_moves(tiny: Path, tmp_path: Path):
    moved = shutil.copytree(tiny / "tiny-llava", tmp_path / "tiny-llava")
    assert asked(moved).settings == asked(tiny / "tiny-llava").settings


@pytest.mark.parametrize(
    "other",
    [
        replace(QUESTION, name="other"),
        replace(QUESTION, text="Is it?"),
        replace(QUESTION, candidates=("no", "yes")),
        replace(QUESTION, spellings=(("Yes",), ("no",))),
    ],
    ids=["name", "text", "candidates", "spellings"],
)
def test_another_prompt_is_another_key(tiny: Path, other: Prompt):
    assert asked(tiny / "tiny-llava", other).settings != asked(tiny / "tiny-llava").settings


def test_longer_answers_are_another_key(tiny: Path):
    found = find_checkpoint(str(tiny / "tiny-llava"))
    short, long = (llm.open_language_model(found, "cpu", steps).settings for steps in (4, 16))
    assert (short["max_new_tokens"], short | {"max_new_tokens": 16}) == (4, dict(long))


def test_settings_are_json_and_name_no_path(tiny: Path):
    assert str(tiny) not in json.dumps(dict(asked(tiny / "tiny-blip-vqa").settings))


def test_the_backend_that_transformers_chooses_is_used_and_stands_in_the_recipe(tiny: Path, monkeypatch):
    class ByTorchvision(transformers.CLIPImageProcessorPil):
        backend = "torchvision"

    wanted, from_pretrained = [], transformers.AutoProcessor.from_pretrained

    def chosen(source: str, **said):
        wanted.append(said)
        made = from_pretrained(source, **said)
        made.image_processor = ByTorchvision()
        return made

    expected = "torchvision" if is_torchvision_available() else "pil"
    assert asked(tiny / "tiny-llava").settings["backend"] == expected
    monkeypatch.setattr(processor.AutoProcessor, "from_pretrained", chosen)
    assert asked(tiny / "tiny-llava").settings["backend"] == "torchvision"
    assert not wanted[0].keys() & {"backend", "use_fast"}


# -- refusals


def test_a_vision_model_cannot_answer_questions(tiny: Path):
    with pytest.raises(ValueError, match="this resnet cannot be loaded with AutoModelForImageTextToText"):
        asked(tiny / "tiny-resnet")


def test_blip_for_another_task_is_refused(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-blip-vqa", tmp_path / "other")
    says(copy / "config.json", architectures=["BlipForImageTextRetrieval"])
    with pytest.raises(ValueError, match="BlipForImageTextRetrieval, which loads only as BlipForConditionalGeneration"):
        asked(copy)


def test_a_language_model_without_a_question_is_refused(tiny: Path):
    with pytest.raises(ValueError, match="at least one prompt of holding-object"):
        ENCODERS["text"](str(tiny / "tiny-llava"), device="cpu")


@without_torchvision
@pytest.mark.parametrize("family", ["LLaVA", "Qwen2-VL"])
def test_a_model_whose_images_only_torchvision_prepares_is_refused_with_the_extra(tmp_path: Path, family: str):
    folder = build(family).save(tmp_path / "model")
    says(folder / "preprocessor_config.json", image_processor_type="Llama4ImageProcessorFast")
    with pytest.raises(ValueError, match=r"model: this \w+ needs torchvision; pip install 'mmcl\[vision\]'"):
        asked(folder)


def test_smolvlm_without_num2words_is_refused_with_the_extra(tmp_path: Path, monkeypatch):
    folder = build("SmolVLM").save(tmp_path / "model")
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"model: this smolvlm needs num2words; pip install 'mmcl\[smolvlm\]'"):
        asked(folder)


def test_a_model_without_image_preprocessing_is_refused(tmp_path: Path):
    folder = build("BLIP-VQA").save(tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="model: this blip has no processor: "):
        asked(folder)


def test_a_processor_that_cannot_be_asked_is_refused_before_weights_are_loaded(tiny: Path, tmp_path: Path):
    """Without a chat template nothing says where the image is."""
    ignore = shutil.ignore_patterns("*.jinja", "*.safetensors")
    copy = shutil.copytree(tiny / "tiny-llava", tmp_path / "copy", ignore=ignore)
    with pytest.raises(ValueError, match=r"copy: its LlavaProcessor cannot be asked about an image: .*<image>"):
        asked(copy)


@without_torchvision
def test_the_processor_that_the_files_name_is_used_and_no_other(tmp_path: Path):
    """Pixtral's repositories are of LLaVA's type and name a processor that needs torchvision."""
    folder = build("LLaVA").save(tmp_path / "model")
    says(folder / "processor_config.json", processor_class="PixtralProcessor")
    with pytest.raises(ValueError, match="model: this llava needs torchvision"):
        asked(folder)
