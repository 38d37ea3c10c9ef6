"""Real checkpoints of a megabyte at most, built in process, for the demo and the tests.

They know nothing: their weights are random, their answers noise. But they are transformers models like any other, so
the product's own path loads them, and features of the same image are the same every time.
"""

from __future__ import annotations

import os
import re
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from ..encoders.checkpoint import quiet
from ..encoders.prompts import PROMPTS

SEED = 0
SIDE = 32  # px of the language models' images
SPREAD = 0.3  # of the random weights; at the usual 0.02 every image would get the same answer
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": SPREAD,
}
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

Parts = tuple[Any, Any]  # a model, and the processor saved beside it


def build_tiny(name: str, folder: Path) -> Path:
    """The checkpoint folder / name, built unless it is there; the same bytes every time."""
    if name not in TINY:
        raise ValueError(f"no tiny checkpoint {name!r}: there are {', '.join(TINY)}")
    final, aside = folder / name, folder / f".{name}.{os.getpid()}"
    if not final.exists():
        _save(TINY[name], aside)
        try:
            aside.replace(final)
        except OSError:  # another process was faster, and its folder holds the same bytes
            shutil.rmtree(aside)
    return final


def _save(build: Callable[[], Parts], folder: Path) -> None:
    with torch.random.fork_rng(devices=[]), quiet():
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would also reseed the GPUs
        for part in build():
            part.save_pretrained(folder)


def _words() -> list[str]:
    """Every word and sign of the prompts, and the answers."""
    said = " ".join(prompt.text for prompt in PROMPTS.values())
    return sorted({"yes", "no", "Yes", "No", "user", "assistant", ":", *re.findall(r"\w+|[^\w\s]", said)})


def _blip() -> Parts:
    letters = [prefix + letter for prefix in ("", "##") for letter in string.ascii_lowercase]
    words = sorted({word.lower() for word in _words()} - set(letters))
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words]
    tokenizer = BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    text = TEXT | {
        "vocab_size": len(tokenizer),
        "encoder_hidden_size": 32,
        "projection_dim": 16,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = VISION | {"initializer_range": SPREAD}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16, image_text_hidden_size=16)
    pictures = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return BlipForQuestionAnswering(config), BlipProcessor(pictures, tokenizer)


def _llava() -> Parts:
    tokens = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "<image>", *_words()])}
    words = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))  # noqa: S106 (not a password)
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    image = {"image_token": "<image>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens=image, **named)
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = TEXT | ends | {"model_type": "llama", "vocab_size": len(tokens)}
    vision = VISION | {"model_type": "clip_vision_model", "num_hidden_layers": 3, "initializer_factor": 5.0}
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokens["<image>"], image_seq_length=16
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    layout = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaForConditionalGeneration(config), LlavaProcessor(pictures, tokenizer, chat_template=CHAT, **layout)


def _resnet() -> Parts:
    shape = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "num_labels": 32}
    config = ResNetConfig(layer_type="basic", **shape)
    return ResNetForImageClassification(config), ViTImageProcessorPil(size={"height": 64, "width": 64})


TINY: dict[str, Callable[[], Parts]] = {"tiny-blip-vqa": _blip, "tiny-llava": _llava, "tiny-resnet": _resnet}
