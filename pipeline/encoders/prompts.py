"""What the language models are asked, by name: the paper's instructions, word for word, and a user's own from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.words import did_you_mean

LAYOUTS = ("strip", "single")  # person images that a language model can be shown
KEYS = ("text", "candidates", "layout")  # of a prompt in a user's file


@dataclass(frozen=True)
class Prompt:
    """One question about a person image. A name stands for one wording for ever: a new wording is a new name."""

    name: str
    text: str
    candidates: tuple[str, ...] = ()  # the answers to weigh against each other; none where the answer is free text
    layout: str = "strip"  # of the person image it is asked about
    spellings: tuple[tuple[str, ...], ...] = ()  # what counts as each candidate; none where their names do

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or not self.text.strip():
            raise ValueError(f"prompt {self.name!r}: needs a name and a text, got {self.text!r}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"prompt {self.name!r}: the layout is {' or '.join(LAYOUTS)}, not {self.layout!r}")
        if len(self.candidates) == 1 or _repeats(self.candidates):
            raise ValueError(f"prompt {self.name!r}: candidates are two or more different words, got {self.candidates}")
        if self.spellings and len(self.spellings) != len(self.candidates):
            raise ValueError(f"prompt {self.name!r}: {len(self.spellings)} spellings for {len(self.candidates)} names")
        if not all(self.said) or _repeats(word for words in self.said for word in words):
            raise ValueError(f"prompt {self.name!r}: a spelling stands for one candidate, got {self.said}")

    @property
    def said(self) -> tuple[tuple[str, ...], ...]:
        """The spellings of each candidate."""
        return self.spellings or tuple((name,) for name in self.candidates)

    @property
    def settings(self) -> dict[str, Any]:
        """What a cache's recipe says about the question."""
        said = {"prompt": self.name, "prompt_text": self.text, "candidates": list(self.candidates)}
        return said | ({"spellings": [list(words) for words in self.spellings]} if self.spellings else {})


def _repeats(words: Iterable[str]) -> bool:
    """Whether a word is empty or there twice, in any case."""
    folded = [word.strip().casefold() for word in words]
    return not all(folded) or len(set(folded)) != len(folded)


def _whether(name: str, target: str, action: str) -> Prompt:
    return Prompt(name, f"Whether the {target} are {action}?", ("yes", "no"))


def _describe(target: str) -> Prompt:
    return Prompt(f"describe-{target}", f"Please describe the {target}.", layout="single")


# The two templates of the MMCL poster, filled in as printed there; the grammar is the paper's. It asks its questions
# about five frames side by side and has one frame described.
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


def get_prompt(name: str, known: Mapping[str, Prompt] = PROMPTS) -> Prompt:
    """The prompt called `name`; ValueError with the nearest name and all choices."""
    if name in known:
        return known[name]
    raise ValueError(f"no prompt {name!r}: {did_you_mean(name, known)}there are {', '.join(known)}")


def read_prompts(path: Path) -> dict[str, Prompt]:
    """A user's prompts, by name: a TOML table each, with text and, if wanted, candidates and layout.

    Candidates are a list of words, or a table of the words that count as each. ValueError with the file, the prompt
    and what is wrong with it.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: no TOML file of prompts: {error}") from error
    if not tables:
        raise ValueError(f'{path}: holds no prompt; write one as a table: [its-name] and text = "Is ...?"')
    return {name: _read(path, name, table) for name, table in tables.items()}


def _read(path: Path, name: str, table: Any) -> Prompt:
    where = f"{path}: prompt {name!r}"
    if not isinstance(table, dict):
        raise ValueError(f"{where}: a prompt is a table, [{name}], with a text; got {table!r}")
    for key in table:
        if key not in KEYS:
            raise ValueError(f"{where}: no setting {key!r}: {did_you_mean(key, KEYS)}there are {', '.join(KEYS)}")
    text, layout = (_string(where, table, key) for key in ("text", "layout"))
    names, spellings = _candidates(where, table.get("candidates", []))
    try:
        prompt = Prompt(name, text, names, layout or "strip", spellings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if PROMPTS.get(name, prompt) != prompt:
        raise ValueError(f"{where}: mmcl's own prompt of this name asks something else; choose another name")
    return prompt


def _string(where: str, table: dict[str, Any], key: str) -> str:
    found = table.get(key, "")
    if not isinstance(found, str):
        raise ValueError(f"{where}: {key} is a string, got {found!r}")
    return found


def _candidates(where: str, found: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The names and, where a table gives them, the spellings of each."""
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return tuple(found), ()
    if isinstance(found, dict) and all(_is_words(words) for words in found.values()):
        return tuple(found), tuple(tuple(words) for words in found.values())
    wanted = 'candidates are a list of words or a table of such lists, { cup = ["cup", "mug"], ... }'
    raise ValueError(f"{where}: {wanted}; got {found!r}")


def _is_words(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(word, str) for word in found)
