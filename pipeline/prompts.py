"""What the language models are asked, by name: the paper's instructions, word for word."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Prompt:
    """One question about a person image. A name stands for one wording for ever: a new wording is a new name."""

    name: str
    text: str
    candidates: tuple[str, ...] = ()  # the answers to weigh against each other; none where the answer is free text

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or not self.text.strip():
            raise ValueError(f"prompt {self.name!r}: needs a name and a text, got {self.text!r}")
        if len({word.casefold() for word in self.candidates}) != len(self.candidates) or len(self.candidates) == 1:
            raise ValueError(f"prompt {self.name!r}: candidates are two or more different words, got {self.candidates}")

    @property
    def settings(self) -> dict[str, Any]:
        """What a cache's recipe says about the question."""
        return {"prompt": self.name, "prompt_text": self.text, "candidates": list(self.candidates)}


def _whether(name: str, target: str, action: str) -> Prompt:
    return Prompt(name, f"Whether the {target} are {action}?", ("yes", "no"))


def _describe(target: str) -> Prompt:
    return Prompt(f"describe-{target}", f"Please describe the {target}.")


# The two templates of the MMCL poster, filled in as printed there; the grammar is the paper's.
PROMPTS = {
    prompt.name: prompt
    for prompt in (
        _whether("holding-object", "person", "holding object"),
        _whether("touching-head", "hand", "touching head"),
        _whether("touching-foot", "hand", "touching foot"),
        _describe("person"),
        _describe("hand"),
        _describe("foot"),
    )
}


def get_prompt(name: str) -> Prompt:
    """The prompt called `name`; ValueError with the nearest name and all choices."""
    if name in PROMPTS:
        return PROMPTS[name]
    near = get_close_matches(name, PROMPTS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"no prompt {name!r}: {hint}there are {', '.join(PROMPTS)}")
