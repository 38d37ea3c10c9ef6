"""Any transformers image-text-to-text model as encoders: one generation gives answer, probabilities and features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoModelForVisualQuestionAnswering, GenerationConfig

from ...cache.table import Columns
from .checkpoint import Checkpoint, find_checkpoint, quiet
from .families import KNOWN_NOT_TO_WORK
from .processor import ask, load_processor
from .prompts import Prompt

VERSION = 2  # raised when the numbers of this file change
MAX_NEW_TOKENS = 16
TEXT_BYTES = 256
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")

# Asked for an image-text-to-text model, transformers loads this checkpoint's weights as BLIP's captioner.
AUTO_CLASSES = {"BlipForQuestionAnswering": AutoModelForVisualQuestionAnswering}


class Answers(NamedTuple):
    """One greedy generation: L steps, those of a row that come before its end token being live."""

    states: Tensor  # [N, L, D] float32, what enters the output layer for each next-token decision
    ids: Tensor  # [N, L]
    live: Tensor  # [N, L] bool
    logits: Tensor  # [N, V] float32, of the first step


@dataclass(frozen=True)
class LanguageModel:
    """A model with its processor, shared by the encoders of all its prompts; its weights are loaded when first used."""

    checkpoint: Checkpoint
    device: str
    dtype: torch.dtype
    processor: Any
    settings: Mapping[str, Any]

    @cached_property
    def model(self) -> Any:
        network, _ = self.checkpoint.load(auto_class(self.checkpoint), self.dtype, self.device, exact=True)
        answer_plainly(network)
        return network

    def prepare(self, images: Sequence[np.ndarray], text: str) -> Any:
        """The model's inputs that put `text` to each image, on the CPU; pinned where they go to a GPU."""
        with quiet():
            inputs = ask(self.processor, images, text).to(self.dtype)
        if self.device != "cpu" and torch.cuda.is_available():
            inputs.update({name: part.pin_memory() for name, part in inputs.items() if isinstance(part, Tensor)})
        return inputs

    @torch.inference_mode()
    def answer(self, inputs: Any) -> Answers:
        """The greedy answers to a prepared batch, all on the device of the model's first weights."""
        device = self.model.device
        with recorded(self._head()) as states, quiet():
            made = self.model.generate(
                **{name: part.to(device, non_blocking=True) for name, part in inputs.items()},
                max_new_tokens=self.settings["max_new_tokens"],
                do_sample=False,
                num_beams=1,
                use_cache=True,
                disable_compile=True,
                return_dict_in_generate=True,
                output_logits=True,
            )
        if len(states) != len(made.logits):
            raise RuntimeError(f"{self.settings['model']}: {len(states)} states for {len(made.logits)} answer tokens")
        ids = made.sequences[:, -len(states) :]
        ends = torch.isin(ids, torch.tensor(self._end_ids, dtype=ids.dtype, device=ids.device))
        found = Answers(torch.stack(states, 1).float(), ids, ends.cumsum(1) == 0, made.logits[0].float())
        return Answers(*(part.to(device) for part in found))

    def tokens(self, words: Sequence[str]) -> list[int]:
        """The tokens that alone say one of `words`: in any case, with or without a leading space."""
        cased = {form for word in words for form in (word, word.lower(), word.capitalize(), word.upper())}
        tokenizer = self.processor.tokenizer
        spelt = [space + form for form in cased for space in ("", " ")]
        said = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in spelt]
        found = {ids[0] for ids in said if len(ids) == 1} - {tokenizer.unk_token_id}
        if not found:
            wanted = " or ".join(map(repr, words))
            raise ValueError(f"{self.settings['model']}: no single token says {wanted}, so it cannot be a candidate")
        return sorted(found)

    @property
    def _is_blip(self) -> bool:
        return hasattr(self.model, "text_decoder")

    def _head(self) -> nn.Module:
        return (self.model.text_decoder if self._is_blip else self.model).get_output_embeddings()

    @cached_property
    def _end_ids(self) -> list[int]:
        """What ends an answer: BLIP hands its decoder the separator; elsewhere it is in the generation config.

        BLIP-2 leaves the generation to its language model, which has a generation config of its own.
        """
        said = [getattr(part, "generation_config", None) for part in self.model.modules()]
        ends = {end for one in said if one and one.eos_token_id is not None for end in np.atleast_1d(one.eos_token_id)}
        return sorted(ends | ({self.model.config.text_config.sep_token_id} if self._is_blip else set()))


@dataclass(frozen=True)
class TextEncoder:
    """One question put to one model.

    Columns: prompt_feature [N, D], what enters the output layer under the first decision: the last layer's state, which
    BLIP's head transforms and T5 with tied embeddings scales by D^-0.5; answer_feature [N, D], its mean over the live
    answer steps; answer_ids [N, L] int32, -1 after the end; answer_text, UTF-8 cut to 256 bytes; and with candidates,
    all from the first step, probabilities [N, C], which sum to one, and mass [N], the total belief in the candidates.
    """

    llm: LanguageModel
    prompt: Prompt
    candidates: Sequence[Sequence[int]]  # each candidate's tokens
    settings: Mapping[str, Any]

    @property
    def layout(self) -> str:
        return self.prompt.layout

    @property
    def parameters(self) -> int:
        """Of the whole model, which is loaded for that."""
        return sum(part.numel() for part in self.llm.model.parameters())

    def prepare(self, images: Sequence[np.ndarray], /) -> Any:
        return self.llm.prepare(images, self.prompt.text)

    def encode(self, prepared: Any, /) -> Columns:
        answers = self.llm.answer(prepared)
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
    """An encoder per prompt on one model, in float32 on the CPU and bfloat16 elsewhere."""
    llm = open_language_model(find_checkpoint(model), device)
    return [put(prompt, llm) for prompt in prompts]


def open_language_model(checkpoint: Checkpoint, device: str, max_new_tokens: int = MAX_NEW_TOKENS) -> LanguageModel:
    """The model without its weights; ValueError where they cannot fit."""
    if reason := dict(KNOWN_NOT_TO_WORK).get(checkpoint.config.model_type):
        raise ValueError(f"{checkpoint.source}: {checkpoint.config.model_type} is known not to work: {reason}")
    checkpoint.check_class(auto_class(checkpoint))
    processor, dtype = load_processor(checkpoint), dtype_on(device)
    settings = {
        **checkpoint.account(checkpoint.class_name(auto_class(checkpoint)), processor.image_processor),
        "version": VERSION,
        "max_new_tokens": max_new_tokens,
        "dtype": str(dtype).removeprefix("torch."),
    }
    return LanguageModel(checkpoint, device, dtype, processor, settings)


def put(prompt: Prompt, llm: LanguageModel) -> TextEncoder:
    """The prompt put to the model; ValueError where no single token says a candidate, or one token says two."""
    candidates = [llm.tokens(words) for words in prompt.said]
    said = [token for tokens in candidates for token in tokens]
    if len(set(said)) != len(said):
        raise ValueError(f"{llm.settings['model']}: one token says two of {', '.join(prompt.candidates)}")
    return TextEncoder(llm, prompt, candidates, {**llm.settings, **prompt.settings})


def auto_class(checkpoint: Checkpoint) -> Any:
    return AUTO_CLASSES.get(checkpoint.architecture, AutoModelForImageTextToText)


def dtype_on(device: str) -> torch.dtype:
    cpu = not torch.accelerator.is_available() if device == "auto" else torch.device(device).type == "cpu"
    return torch.float32 if cpu else torch.bfloat16


def answer_plainly(network: nn.Module) -> None:
    """Keep of every generation config the token ids alone: penalties, samplers and time limits bend greedy answers."""
    for part in network.modules():
        if said := getattr(part, "generation_config", None):
            plain = GenerationConfig(**{name: getattr(said, name, None) for name in TOKEN_IDS})
            setattr(part, "generation_config", plain)  # noqa: B010 - no tensor, which is all that types expect of it


@contextmanager
def recorded(head: nn.Module) -> Iterator[list[Tensor]]:
    """Collects, for each call of the output layer, the last position's state [N, D] that enters it."""
    states: list[Tensor] = []
    # a clone: a view would keep the states of all positions in memory
    handle = head.register_forward_pre_hook(lambda _, args: states.append(args[0][:, -1].detach().clone()))
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
