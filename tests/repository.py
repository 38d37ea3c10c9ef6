"""A tiny hub repository of a language model, and the parts that many families share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers

from mmcl.pipeline.encoders.checkpoint import quiet
from mmcl.pipeline.encoders.prompts import PROMPTS

SIDE = 32  # px
SQUARE = {"height": SIDE, "width": SIDE}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": SIDE, "patch_size": 8}
SIGLIP = VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "max_position_embeddings": 512}
OPT = {"model_type": "opt", "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2}
OPT |= {"num_attention_heads": 2, "max_position_embeddings": 128}
T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
QFORMER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
QFORMER |= {"encoder_hidden_size": 32, "cross_attention_frequency": 1}
NORMAL = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
SAID = " ".join(PROMPTS[name].text for name in ("touching-head", "describe-person"))
WORDS = sorted({"yes", "no", "Yes", "No", "user", "assistant", ":", *re.findall(r"\w+|[^\w\s]", SAID)})


@dataclass(frozen=True)
class Repository:
    """What a repository of the family holds, and what a test must know about it."""

    model: Any
    tokenizer: Any
    files: dict[str, Any]  # JSON by file name, and chat_template.jinja as text
    ends: Sequence[str] = ("</s>",)  # what ends an answer
    seed: int = 3  # of weights under which answers end after different numbers of steps
    by_size: bool = False  # whether images of other sizes are other numbers of tokens
    entering: Callable[[Any, torch.Tensor], torch.Tensor] = field(default=lambda model, state: state)
    folders: dict[str, Any] = field(default_factory=dict)  # more tokenizers, by folder

    def save(self, folder: Path) -> Path:
        with quiet():
            for part, place in ((self.model, folder), (self.tokenizer, folder)):
                part.save_pretrained(place)
            for name, part in self.folders.items():
                part.save_pretrained(folder / name)
        for name, said in self.files.items():
            (folder / name).write_text(said if isinstance(said, str) else json.dumps(said))
        return folder


def words(*marks: str, **named: Any) -> Any:
    """A tokenizer of whole words, whose first tokens are the marks."""
    known = {token: i for i, token in enumerate(dict.fromkeys([*marks, "<unk>", *WORDS]))}
    model = Tokenizer(models.WordLevel(known, unk_token="<unk>"))  # noqa: S106 (not a password)
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {"unk_token": "<unk>", "additional_special_tokens": list(marks)} | named
    return hf.PreTrainedTokenizerFast(tokenizer_object=model, **named)


def bert() -> Any:
    """BERT's tokenizer, which knows no capitals."""
    tokens = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(word.lower() for word in WORDS)])
    return hf.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def ids(tokenizer: Any, marks: dict[str, str]) -> dict[str, int]:
    """The numbers that a config wants, from the tokens they stand for."""
    return {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}


def chat(image: str, start: str = "", end: str = "") -> str:
    """A chat template that shows an image as `image`."""
    return (
        start + "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + image + " {% else %}{{ c['text'] }}{% endif %}{% endfor %}" + end + "{% endfor %}"
        "{% if add_generation_prompt %} assistant :{% endif %}"
    )  # fmt: skip


def pictures(kind: str, processor: str, **said: Any) -> dict[str, Any]:
    """preprocessor_config.json as the hub has it, naming the class that needs torchvision."""
    return {"image_processor_type": kind, "processor_class": processor} | NORMAL | said
