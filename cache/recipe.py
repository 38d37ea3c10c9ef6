"""What a cache was made with, and the key that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 2  # raised when the files of a cache are laid out differently

KINDS = ("person-images", "rgb", "text")


@dataclass(frozen=True)
class Recipe:
    """Everything that changes a cache's numbers: two caches with equal keys hold the same features.

    `settings` is the encoder's own account (model, fingerprint, prompt, preprocessing, ...). Library versions are not
    part of it: they are recorded with each part, so that a patch release orphans nobody's night of work.
    """

    kind: str
    dataset: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r}: a cache is one of {', '.join(KINDS)}")
        canonical(self.settings)

    @property
    def key(self) -> str:
        """Twelve hex digits of the SHA-256 of the recipe's canonical JSON."""
        return hashlib.sha256(canonical(self.as_dict()).encode()).hexdigest()[:12]

    @property
    def model(self) -> str:
        if "person" in self.settings:
            return f"{self.settings['person']}, {self.settings.get('layout', '-')}"
        return str(self.settings.get("model", "-"))

    @property
    def prompt(self) -> str:
        """The prompt's name, or "-" where nothing was asked."""
        return str(self.settings.get("prompt", "-"))

    def as_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": self.kind, "dataset": self.dataset, "settings": dict(self.settings)}

    def __str__(self) -> str:
        asked = "" if self.prompt == "-" else f", prompt {self.prompt}"
        return f"{self.key}  {self.model}{asked}"


def canonical(value: object) -> str:
    """One spelling for equal values: sorted keys, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def read_recipe(folder: Path) -> Recipe:
    """The recipe of the cache in `folder`; ValueError where it is missing, damaged or of another format."""
    path = folder / "recipe.json"
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"cache format {found['format']}, this version reads {FORMAT}")
        return Recipe(found["kind"], found["dataset"], dict(found["settings"]))
    except FileNotFoundError:
        raise ValueError(f"{folder}: not a cache, recipe.json is missing") from None
    except KeyError as error:
        raise ValueError(f"{path}: not a recipe (no {error}); move {folder} away and extract again") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not a recipe ({error}); move {folder} away and extract again") from error


def differences(found: Recipe, wanted: Recipe) -> str:
    """The settings in which two recipes differ, one a line: name, found, wanted."""
    left, right = _flat(found), _flat(wanted)
    names = [name for name in sorted(left | right) if left.get(name) != right.get(name)]
    return "\n".join(f"  {name}: found {left.get(name, '-')}, wanted {right.get(name, '-')}" for name in names)


def _flat(recipe: Recipe) -> dict[str, str]:
    return {"kind": recipe.kind, "dataset": recipe.dataset} | {k: canonical(v) for k, v in recipe.settings.items()}
