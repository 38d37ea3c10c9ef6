"""Encoders: the numbers they give, the settings they are known by, and what they refuse."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from mmcl.pipeline import llm
from mmcl.pipeline.checkpoint import fingerprint, quiet
from mmcl.pipeline.encoder import ENCODERS, Columns, Encoder
from mmcl.pipeline.prompts import PROMPTS
from mmcl.pipeline.tiny import TINY, build_tiny

QUESTION, DESCRIPTION = PROMPTS["touching-head"], PROMPTS["describe-person"]
VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = VIT | {"image_size": 32, "patch_size": 8}
LLMS = ["tiny-blip-vqa", "tiny-llava"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Such small models lose time in threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(models: Path) -> Path:
    return models


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(6)]


def asked(folder: Path, prompt=QUESTION) -> llm.TextEncoder:
    return llm.load(str(folder), "cpu", [prompt])[0]


def seen(folder: Path) -> Encoder:
    return ENCODERS["rgb"](str(folder), device="cpu")[0]


def stacked(encoder: Encoder, images: list[np.ndarray]) -> Columns:
    """The columns of the images encoded one at a time."""
    rows = [encoder.encode([image]) for image in images]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def changed(folder: Path, copy: Path, **config: object) -> Path:
    """A copy of a checkpoint that says something else about itself."""
    shutil.copytree(folder, copy)
    said = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(said | config))
    return copy


# -- language models


@pytest.mark.parametrize("name", LLMS)
@pytest.mark.parametrize("prompt", [QUESTION, DESCRIPTION], ids=lambda prompt: prompt.name)
def test_a_batch_gives_each_clip_what_it_gets_alone(tiny: Path, images: list[np.ndarray], name: str, prompt):
    encoder = asked(tiny / name, prompt)
    together, alone = encoder.encode(images), stacked(encoder, images)
    assert together.keys() == alone.keys()
    for column in together:
        if together[column].dtype == np.float32:
            np.testing.assert_allclose(together[column], alone[column], atol=1e-5, rtol=1e-5)
        else:
            np.testing.assert_array_equal(together[column], alone[column])


def test_the_batch_above_mixes_answers_of_different_lengths(tiny: Path, images: list[np.ndarray]):
    lengths = (asked(tiny / "tiny-llava").encode(images)["answer_ids"] >= 0).sum(1)
    assert len(set(lengths)) > 1


def test_columns_have_the_promised_types_and_shapes(tiny: Path, images: list[np.ndarray]):
    columns = asked(tiny / "tiny-llava").encode(images)
    assert {name: (column.dtype.str, column.shape) for name, column in columns.items()} == {
        "prompt_feature": ("<f4", (6, 32)),
        "answer_feature": ("<f4", (6, 32)),
        "probabilities": ("<f4", (6, 2)),
        "mass": ("<f4", (6,)),
        "answer_ids": ("<i4", (6, llm.MAX_NEW_TOKENS)),
        "answer_text": ("|S256", (6,)),
    }


def test_a_description_has_no_probabilities(tiny: Path, images: list[np.ndarray]):
    assert "probabilities" not in asked(tiny / "tiny-llava", DESCRIPTION).encode(images)


@pytest.mark.parametrize(("kind", "name"), [("text", "tiny-blip-vqa"), ("text", "tiny-llava"), ("rgb", "tiny-resnet")])
def test_no_images_give_the_same_columns_without_rows(tiny: Path, images: list[np.ndarray], kind: str, name: str):
    (encoder,) = ENCODERS[kind](str(tiny / name), device="cpu", prompts=[QUESTION])
    some, none = encoder.encode(images[:1]), encoder.encode([])
    assert {k: (v.dtype, (0, *v.shape[1:])) for k, v in some.items()} == {
        k: (v.dtype, v.shape) for k, v in none.items()
    }


def test_the_prompt_feature_is_the_plain_models_last_hidden_state(tiny: Path, images: list[np.ndarray]):
    encoder = asked(tiny / "tiny-llava")
    plain = transformers.LlavaForConditionalGeneration.from_pretrained(tiny / "tiny-llava")
    processor = transformers.AutoProcessor.from_pretrained(tiny / "tiny-llava")
    pictures = [Image.fromarray(image) for image in images]
    inputs = processor(images=pictures, text=[f"user: <image> {QUESTION.text} assistant:"] * 6, return_tensors="pt")
    with torch.inference_mode():
        states = plain(**inputs, output_hidden_states=True).hidden_states[-1][:, -1]
    np.testing.assert_allclose(encoder.encode(images)["prompt_feature"], states.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", LLMS)
def test_probabilities_are_the_first_steps_softmax_over_the_spellings(tiny: Path, images: list[np.ndarray], name: str):
    encoder = asked(tiny / name)
    with quiet():
        inputs = encoder.llm.inputs(images, QUESTION.text)
        made = encoder.llm.model.generate(
            **inputs, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
    words = encoder.llm.processor.tokenizer.get_vocab()
    yes, no = ([words[w] for w in (word, word.capitalize()) if w in words] for word in ("yes", "no"))
    belief = made.logits[0].softmax(-1)
    each = torch.stack([belief[:, yes].sum(1), belief[:, no].sum(1)], 1)
    columns = encoder.encode(images)
    np.testing.assert_allclose(columns["mass"], each.sum(1).numpy(), rtol=1e-4)
    np.testing.assert_allclose(columns["probabilities"], (each / each.sum(1, keepdim=True)).numpy(), rtol=1e-4)


def test_the_answer_feature_is_the_mean_of_the_live_steps_only():
    states = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [100.0], [100.0]]])
    live = torch.tensor([[True, True, False], [False, False, False]])
    answers = llm.Answers(states, torch.zeros(2, 3), live, torch.zeros(2, 9))
    assert llm.mean_state(answers).tolist() == [[2.0], [5.0]]


def test_answer_text_is_cut_between_characters():
    assert llm.clip_text("é" * 200).decode() == "é" * 128
    assert llm.clip_text("x" + "é" * 200).decode() == "x" + "é" * 127


def test_a_word_of_several_tokens_cannot_be_a_candidate(tiny: Path):
    with pytest.raises(ValueError, match="tiny-llava: no single token says 'perhaps'"):
        asked(tiny / "tiny-llava").llm.spellings("perhaps")


def test_nothing_stays_on_the_model_when_generation_fails(tiny: Path, images: list[np.ndarray], monkeypatch):
    encoder = asked(tiny / "tiny-llava")
    head = encoder.llm.model.get_output_embeddings()
    monkeypatch.setattr(encoder.llm.model, "generate", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(images)
    assert not head._forward_pre_hooks


def test_several_prompts_share_one_loaded_model(tiny: Path):
    first, second = llm.load(str(tiny / "tiny-llava"), "cpu", [QUESTION, DESCRIPTION])
    assert first.llm is second.llm


def test_a_family_with_a_video_processor_works_without_torchvision(tmp_path: Path, images: list[np.ndarray]):
    encoder = asked(_save_qwen(tmp_path / "qwen"))
    together, alone = encoder.encode(images[:3]), stacked(encoder, images[:3])
    np.testing.assert_allclose(together["answer_feature"], alone["answer_feature"], atol=1e-5)


def _save_qwen(folder: Path) -> Path:
    marks = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", "yes", "no", *marks])}
    named = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    model = tokenizers.models.WordLevel(words, unk_token="<unk>")  # noqa: S106 (not a password)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), additional_special_tokens=marks, **named
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    names = ["vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"]
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    text = {"hidden_size": 32, "num_key_value_heads": 4, "num_attention_heads": 4, "rope_parameters": rope}
    config = transformers.Qwen2VLConfig(
        text_config=VIT
        | text
        | {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 4,
            "mlp_ratio": 2,
            "patch_size": 14,
        },
        **dict(zip(names, tokenizer.convert_tokens_to_ids(marks), strict=True)),
    )
    pictures = transformers.Qwen2VLImageProcessorPil(
        size={"shortest_edge": 28**2, "longest_edge": 56**2}, patch_size=14
    )
    with quiet():
        for part in (transformers.Qwen2VLForConditionalGeneration(config), pictures, tokenizer):
            part.save_pretrained(folder)
    return folder


# -- vision models


def test_a_classifiers_feature_is_what_its_logits_are_made_from(tiny: Path, images: list[np.ndarray]):
    encoder = seen(tiny / "tiny-resnet")
    columns = encoder.encode(images)
    plain = transformers.ResNetForImageClassification.from_pretrained(tiny / "tiny-resnet")
    logits = plain.classifier(torch.from_numpy(columns["feature"])).detach().numpy()
    assert columns["feature"].shape == (6, 64)
    assert columns["logits"].shape == (6, 32)
    np.testing.assert_allclose(columns["logits"], logits, atol=1e-5)
    np.testing.assert_allclose(columns["feature"], stacked(encoder, images)["feature"], atol=1e-5)


def test_a_vit_classifier_gives_its_class_token_and_not_a_random_pooler(tmp_path: Path, images: list[np.ndarray]):
    network = transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL, num_labels=7))
    columns = seen(_save_vision(network, tmp_path / "vit")).encode(images)
    states = _states(network.vit, tmp_path / "vit", images)
    np.testing.assert_allclose(columns["feature"], states.last_hidden_state[:, 0], atol=1e-5)
    assert columns["logits"].shape == (6, 7)


def test_a_vit_without_pooler_weights_gives_its_class_token(tmp_path: Path, images: list[np.ndarray]):
    network = transformers.ViTModel(transformers.ViTConfig(**SMALL), add_pooling_layer=False)
    columns = seen(_save_vision(network, tmp_path / "vit")).encode(images)
    states = _states(network, tmp_path / "vit", images)
    assert list(columns) == ["feature"]
    np.testing.assert_allclose(columns["feature"], states.last_hidden_state[:, 0], atol=1e-5)


def test_a_vit_with_a_trained_pooler_gives_its_output(tmp_path: Path, images: list[np.ndarray]):
    network = transformers.ViTModel(transformers.ViTConfig(**SMALL))
    columns = seen(_save_vision(network, tmp_path / "vit")).encode(images)
    states = _states(network, tmp_path / "vit", images)
    np.testing.assert_allclose(columns["feature"], states.pooler_output, atol=1e-5)


def test_a_vision_language_checkpoint_gives_its_image_embedding(tmp_path: Path, images: list[np.ndarray]):
    text = VIT | {"vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    network = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=12))
    columns = seen(_save_vision(network, tmp_path / "clip")).encode(images)
    states = _states(network.vision_model, tmp_path / "clip", images)
    with torch.inference_mode():
        embedded = network.visual_projection(states.pooler_output)
    np.testing.assert_allclose(columns["feature"], embedded, atol=1e-5)


def _save_vision(network: transformers.PreTrainedModel, folder: Path) -> Path:
    with quiet():
        network.eval().save_pretrained(folder)
        transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def _states(network: torch.nn.Module, folder: Path, images: list[np.ndarray]):
    processor = transformers.ViTImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        return network(**processor(images=[Image.fromarray(image) for image in images], return_tensors="pt"))


# -- settings


def test_settings_stay_when_a_folder_moves_and_change_with_weights_and_prompt(tiny: Path, tmp_path: Path):
    before = asked(tiny / "tiny-llava").settings
    moved = shutil.copytree(tiny / "tiny-llava", tmp_path / "tiny-llava")
    assert asked(moved).settings == before
    assert asked(moved, DESCRIPTION).settings != before
    weights = {name: weight + 1 for name, weight in load_file(moved / "model.safetensors").items()}
    save_file(weights, moved / "model.safetensors", {"format": "pt"})
    assert asked(moved).settings["fingerprint"] != before["fingerprint"]


def test_settings_are_json_and_name_no_path(tiny: Path):
    for encoder in (asked(tiny / "tiny-blip-vqa"), seen(tiny / "tiny-resnet")):
        assert str(tiny) not in json.dumps(dict(encoder.settings))
        assert encoder.layout == "strip"


def test_a_hub_model_is_known_by_its_commit(tiny: Path, tmp_path: Path, monkeypatch):
    commit = "0123456789abcdef" * 2 + "01234567"
    cached = tmp_path / "models--someone--tiny-llava"
    shutil.copytree(tiny / "tiny-llava", cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (encoder,) = ENCODERS["text"]("someone/tiny-llava", device="cpu", prompts=[QUESTION])
    assert (encoder.settings["model"], encoder.settings["fingerprint"]) == ("someone/tiny-llava", commit)


def test_hidden_files_are_no_part_of_a_fingerprint(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-resnet", tmp_path / "copy")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "downloaded").write_text("today")
    assert fingerprint(copy) == fingerprint(tiny / "tiny-resnet")


# -- the tiny checkpoints


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_checkpoint_is_the_same_every_time_and_leaves_the_random_state(tiny: Path, tmp_path: Path, name: str):
    state = torch.random.get_rng_state()
    torch.rand(3)
    torch.random.set_rng_state(state)
    assert fingerprint(build_tiny(name, tmp_path)) == fingerprint(tiny / name)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_tiny_checkpoint_that_is_there_is_kept(tiny: Path):
    before = (tiny / "tiny-llava" / "model.safetensors").stat()
    assert build_tiny("tiny-llava", tiny) == tiny / "tiny-llava"
    assert (tiny / "tiny-llava" / "model.safetensors").stat() == before


def test_an_unknown_tiny_checkpoint_is_refused_with_the_names(tmp_path: Path):
    with pytest.raises(ValueError, match="tiny-blip-vqa, tiny-llava, tiny-resnet"):
        build_tiny("tiny-gpt", tmp_path)


# -- refusals


def test_weights_that_load_as_another_class_are_refused(tiny: Path, tmp_path: Path):
    other = changed(tiny / "tiny-blip-vqa", tmp_path / "other", architectures=["BlipForImageTextRetrieval"])
    with pytest.raises(ValueError, match="BlipForImageTextRetrieval, which loads only as BlipForConditionalGeneration"):
        asked(other)


@pytest.mark.parametrize(("kind", "name"), [("text", "tiny-blip-vqa"), ("text", "tiny-llava"), ("rgb", "tiny-resnet")])
def test_a_checkpoint_with_missing_weights_is_refused(tiny: Path, tmp_path: Path, kind: str, name: str):
    copy = shutil.copytree(tiny / name, tmp_path / name)
    weights = load_file(copy / "model.safetensors")
    lost = next(key for key in weights if "layer" in key)
    save_file({k: v for k, v in weights.items() if k != lost}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="1 weights are missing or of another shape"):
        ENCODERS[kind](str(copy), device="cpu", prompts=[QUESTION])


def test_weights_of_another_shape_are_refused(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-resnet", tmp_path / "resnet")
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"classifier.1.bias": torch.zeros(5)}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"another shape, such as classifier\.1\.bias"):
        seen(copy)


def test_a_torn_download_is_refused(tiny: Path, tmp_path: Path):
    copy = shutil.copytree(tiny / "tiny-resnet", tmp_path / "resnet")
    (copy / "model.safetensors").write_bytes((tiny / "tiny-resnet" / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="this resnet cannot be loaded"):
        seen(copy)


def test_a_vision_model_cannot_answer_questions(tiny: Path):
    with pytest.raises(ValueError, match="this resnet cannot be loaded with AutoModelForImageTextToText"):
        asked(tiny / "tiny-resnet")


def test_an_unknown_model_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nobody/nothing: no folder of this name here, .* give its folder"):
        ENCODERS["rgb"]("nobody/nothing", device="cpu")


@pytest.mark.parametrize("path", ["./nothing-here", "/nothing/here", "~/nothing-here", "a/b/c"])
def test_a_missing_folder_is_refused_as_a_folder(path: str):
    with pytest.raises(ValueError, match="no such folder"):
        ENCODERS["rgb"](path, device="cpu")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="not a transformers checkpoint"):
        ENCODERS["rgb"](str(tmp_path), device="cpu")


def test_a_language_model_without_a_question_is_refused(tiny: Path):
    with pytest.raises(ValueError, match="at least one prompt of holding-object"):
        ENCODERS["text"](str(tiny / "tiny-llava"), device="cpu")


# -- a user's own encoder

OWN = """
import numpy as np
class Mean:
    settings = {"size": 1}
    layout = "strip"
    def __init__(self, device, prompt=None): self.prompt = prompt
    def encode(self, images): return {"feature": np.stack([i.mean((0, 1)) for i in images]).astype(np.float32)}
class Silent:
    settings = {}
    def __init__(self, device): pass
class Odd(Mean):
    settings = {"size": {1, 2}}
class Free:
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_encoders.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield "own_encoders"
    sys.modules.pop("own_encoders", None)


def test_a_class_in_the_working_folder_is_an_encoder(own: str, images: list[np.ndarray]):
    before = sys.path[:]
    (encoder,) = ENCODERS["rgb"](f"{own}:Mean", device="cpu")
    assert sys.path == before
    assert encoder.settings.keys() == {"model", "size", "source"}
    assert encoder.settings["model"] == "own_encoders:Mean"
    assert encoder.encode(images)["feature"].shape == (6, 3)


def test_a_class_of_ones_own_is_made_once_per_prompt_and_never_mixes_them(own: str):
    first, second = ENCODERS["text"](f"{own}:Mean", device="cpu", prompts=[QUESTION, DESCRIPTION])
    assert (first.settings["prompt"], second.settings["prompt"]) == ("touching-head", "describe-person")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("Nobody", ValueError, "has no class 'Nobody'"),
        ("Silent", ValueError, "look at its layout, encode"),
        ("Odd", ValueError, "settings must be JSON values"),
        ("Free", ValueError, "called with device, it failed"),
    ],
)
def test_what_is_no_encoder_is_refused(own: str, name: str, error: type[Exception], message: str):
    with pytest.raises(error, match=f"own_encoders:{name}: .*{message}"):
        ENCODERS["rgb"](f"{own}:{name}", device="cpu")


def test_a_module_that_cannot_be_imported_is_refused():
    with pytest.raises(ValueError, match="nowhere_at_all:Mean: cannot import nowhere_at_all from"):
        ENCODERS["rgb"]("nowhere_at_all:Mean", device="cpu")


def test_naming_encoders_and_prompts_loads_no_big_library():
    code = (
        "import sys, mmcl.pipeline.encoder, mmcl.pipeline.prompts; print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
