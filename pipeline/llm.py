"""Any transformers image-text-to-text model as encoders: one generation gives answer, probabilities and features."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from .checkpoint import Checkpoint, find_checkpoint, pictures, quiet
from .encoder import Columns
from .prompts import Prompt

VERSION = 1  # raised when the numbers of this file change
MAX_NEW_TOKENS = 16
TEXT_BYTES = 256

# Asked for an image-text-to-text model, transformers loads this checkpoint's weights as BLIP's captioner.
AUTO_CLASSES = {"BlipForQuestionAnswering": AutoModelForVisualQuestionAnswering}


class Answers(NamedTuple):
    """One greedy generation: L steps, those of a row that come before its end token being live."""

    states: Tensor  # [N, L, D] float32, the last layer's state under each next-token decision
    ids: Tensor  # [N, L]
    live: Tensor  # [N, L] bool
    logits: Tensor  # [N, V] float32, of the first step


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model with its processor, shared by the encoders of all its prompts."""

    model: Any
    processor: Any
    settings: Mapping[str, Any]

    @torch.inference_mode()
    def answer(self, images: Sequence[np.ndarray], text: str) -> Answers:
        """Asks `text` of each image."""
        with recorded(self._head()) as states, quiet():
            made = self.model.generate(
                **self.inputs(images, text),
                max_new_tokens=self.settings["max_new_tokens"],
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=True,
                output_logits=True,
            )
        if len(states) != len(made.logits):
            raise RuntimeError(f"{self.settings['model']}: {len(states)} states for {len(made.logits)} answer tokens")
        ids = made.sequences[:, -len(states) :]
        ends = torch.isin(ids, torch.tensor(self._end_ids(), dtype=ids.dtype, device=ids.device))
        found = Answers(torch.stack(states, 1).float(), ids, ends.cumsum(1) == 0, made.logits[0].float())
        return Answers(*(part[: len(images)] for part in found))

    def inputs(self, images: Sequence[np.ndarray], text: str) -> Any:
        """The model's inputs: through the chat template where there is one, else the text as it is."""
        shown = pictures(images)
        template = getattr(self.processor, "chat_template", None) or self.processor.tokenizer.chat_template
        if template is None:
            made = self.processor(images=shown, text=[text] * len(shown), padding=True, return_tensors="pt")
        else:
            made = self._chat(template, shown, text)
        return made.to(self.model.device, self.model.dtype)

    def _chat(self, template: str, shown: Sequence[Any], text: str) -> Any:
        asked = {"type": "text", "text": text}
        chats = [[{"role": "user", "content": [{"type": "image", "image": one}, asked]}] for one in shown]
        return self.processor.apply_chat_template(
            chats,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        )

    def spellings(self, word: str) -> list[int]:
        """The tokens that alone say `word`: in any case, with or without a leading space."""
        cased = {word, word.lower(), word.capitalize(), word.upper()}
        tokenizer = self.processor.tokenizer
        spelt = [tokenizer(space + w, add_special_tokens=False)["input_ids"] for w in cased for space in ("", " ")]
        found = {ids[0] for ids in spelt if len(ids) == 1} - {tokenizer.unk_token_id}
        if not found:
            raise ValueError(f"{self.settings['model']}: no single token says {word!r}, so it cannot be a candidate")
        return sorted(found)

    def _head(self) -> nn.Module:
        return getattr(self.model, "text_decoder", self.model).get_output_embeddings()

    def _end_ids(self) -> list[int]:
        """What ends an answer: BLIP hands its decoder the separator, the others say it in their generation config."""
        if type(self.model).__name__ in AUTO_CLASSES:
            return [self.model.config.text_config.sep_token_id]
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]


@dataclass(frozen=True)
class TextEncoder:
    """One question put to one model.

    Columns: prompt_feature [N, D], under the first decision; answer_feature [N, D], mean over the live answer steps;
    answer_ids [N, L] int32, -1 after the end; answer_text, UTF-8 cut to 256 bytes; and with candidates, all from the
    first step, probabilities [N, C], which sum to one, and mass [N], the model's total belief in the candidates.
    """

    llm: LanguageModel
    prompt: Prompt
    candidates: Sequence[Sequence[int]]  # each candidate's tokens
    settings: Mapping[str, Any]
    layout: str = "strip"

    def encode(self, images: Sequence[np.ndarray], /) -> Columns:
        answers = self.llm.answer(images, self.prompt.text)
        floats = {"prompt_feature": answers.states[:, 0], "answer_feature": mean_state(answers)}
        if self.candidates:
            floats["probabilities"], floats["mass"] = weigh(answers.logits, self.candidates)
        kept = [ids[live].tolist() for ids, live in zip(answers.ids.cpu(), answers.live.cpu(), strict=True)]
        said = [self.llm.processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in kept]
        return {name: column.cpu().numpy() for name, column in floats.items()} | {
            "answer_ids": padded(kept, self.settings["max_new_tokens"]),
            "answer_text": np.array([clip_text(text.strip()) for text in said], f"S{TEXT_BYTES}"),
        }


def load(model: str, device: str, prompts: Sequence[Prompt]) -> list[TextEncoder]:
    """An encoder per prompt on one loaded model, in float32 on the CPU and bfloat16 on a GPU."""
    llm = load_language_model(find_checkpoint(model), device)
    return [_ask(llm, prompt) for prompt in prompts]


def _ask(llm: LanguageModel, prompt: Prompt) -> TextEncoder:
    candidates = [llm.spellings(word) for word in prompt.candidates]
    return TextEncoder(llm, prompt, candidates, {**llm.settings, **prompt.settings})


def load_language_model(checkpoint: Checkpoint, device: str, max_new_tokens: int = MAX_NEW_TOKENS) -> LanguageModel:
    dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
    auto = AUTO_CLASSES.get(checkpoint.architecture, AutoModelForImageTextToText)
    network, _ = checkpoint.load(auto, dtype, device, exact=True)
    processor = load_processor(checkpoint)
    settings = {
        **checkpoint.account(network, processor.image_processor),
        "version": VERSION,
        "max_new_tokens": max_new_tokens,
        "dtype": str(dtype).removeprefix("torch."),
    }
    return LanguageModel(network, processor, settings)


def load_processor(checkpoint: Checkpoint) -> Any:
    """The checkpoint's processor, padding on the left as generation needs it; no videos without torchvision."""
    with quiet(), checkpoint.explained("has no processor"):
        try:
            processor = AutoProcessor.from_pretrained(checkpoint.source, **checkpoint.pinned)
        except (ImportError, ValueError) as error:
            if "torchvision" not in str(error).lower():
                raise
            processor = _processor_without_videos(checkpoint)
    processor.image_processor = checkpoint.image_processor()
    processor.tokenizer.padding_side = "left"
    processor.tokenizer.pad_token = processor.tokenizer.pad_token or processor.tokenizer.eos_token
    return processor


class _NoVideos:
    """Stands in for a video processor, which transformers has for torchvision only."""

    model_input_names: Sequence[str] = ()

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _processor_without_videos(checkpoint: Checkpoint) -> Any:
    base: Any = PROCESSOR_MAPPING[type(checkpoint.config)]
    accepting = {"check_argument_for_proper_class": lambda self, name, value: type(value), "__init__": base.__init__}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.source, **checkpoint.pinned)
    parts = {
        "image_processor": checkpoint.image_processor(),
        "tokenizer": tokenizer,
        "video_processor": _NoVideos(),
    }
    said, _ = base.get_processor_dict(checkpoint.source, **checkpoint.pinned)
    options = {k: v for k, v in said.items() if k in inspect.signature(base.__init__).parameters and k not in parts}
    relaxed = type(base.__name__, (base,), accepting | {"__module__": base.__module__})
    return relaxed(*[parts[name] for name in base.get_attributes()], **options)


@contextmanager
def recorded(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collects, for each call of the output layer, the last position's state [N, D] that enters it."""
    states: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, args: states.append(args[0][:, -1].detach()))
    try:
        yield states
    finally:
        handle.remove()


def mean_state(answers: Answers) -> Tensor:
    """[N, D], over the live steps; an answer that ends at once keeps its first state."""
    weights = answers.live.float()
    weights[:, 0] = 1  # only the end token itself can stand there otherwise
    return (answers.states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def weigh(logits: Tensor, candidates: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Probabilities [N, C] over the candidates, and [N] their mass: small where the model says something else."""
    logs = logits.log_softmax(-1)
    each = torch.stack([logs[:, list(ids)].logsumexp(-1) for ids in candidates], -1)
    return each.softmax(-1), each.logsumexp(-1).exp()


def padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """[N, length] int32, -1 after each row's end."""
    table = np.full((len(rows), length), -1, np.int32)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return table


def clip_text(text: str) -> bytes:
    """UTF-8 of at most 256 bytes, cut between characters."""
    return text.encode()[:TEXT_BYTES].decode(errors="ignore").encode()
