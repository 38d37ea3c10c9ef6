"""The recipes of all feature caches that a run has to do with: those that taught it, and those that lie beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...cache.recipe import KINDS, Recipe, canonical, read_recipe
from ...cache.store import find_caches, is_merged
from ..run import Run
from ..testing.notes import HEADS
from .content import Fact, Facts

TAUGHT = "taught this run"
KIND_NAMES = {"person-images": "person images", "rgb": "RGB features", "text": "text features"}


def recipes_of(run: Run, data: Path) -> tuple[Facts, ...]:
    """First the caches that the run was trained on, as run.json has them, then all others of the data set's folder."""
    taught = [facts for kind in HEADS for cache in run.teachers(kind) for facts in [_taught(kind, cache, data)]]
    keys = {str(cache.get("key")) for kind in HEADS for cache in run.teachers(kind)}
    return (*taught, *_beside(data, keys))


def teacher_keys(run: Run) -> tuple[str, ...]:
    return tuple(str(cache.get("key")) for kind in HEADS for cache in run.teachers(kind))


def _taught(kind: str, cache: Mapping[str, Any], data: Path) -> Facts:
    settings, key = cache.get("settings", {}), str(cache.get("key", "?"))
    gone = "" if (data / kind / key / "cache.h5").exists() else ", since deleted or moved (testing does not need it)"
    own = [Fact(name, said(cache[name])) for name in ("rows", "columns", "dim", "constant", "dataset") if name in cache]
    return Facts(_title(kind, settings), (Fact("key", key), *_settings(settings), *own), f"{TAUGHT}{gone}")


def _beside(data: Path, taught: set[str]) -> Iterator[Facts]:
    for kind in KINDS:
        for folder in find_caches(data, kind):
            if folder.name in taught:
                continue
            try:
                recipe = read_recipe(folder)
            except (ValueError, OSError) as error:
                yield Facts(f"{KIND_NAMES[kind]}: {folder.name}", (Fact("unreadable", str(error)),), "not used")
                continue
            facts = Fact("key", recipe.key), *_settings(recipe.settings)
            yield Facts(_title(kind, recipe.settings), facts, _state(recipe, folder))


def _state(recipe: Recipe, folder: Path) -> str:
    unfinished = "" if is_merged(folder) else ", not finished"
    return ("what the teachers look at" if recipe.kind == "person-images" else "not used by this run") + unfinished


def _title(kind: str, settings: Mapping[str, Any]) -> str:
    asked = f", {settings['prompt']}" if "prompt" in settings else ""
    model = settings.get("model") or f"{settings.get('layout', '')}, person: {settings.get('person', '?')}"
    return f"{KIND_NAMES[kind]}: {model}{asked}"


def _settings(settings: Mapping[str, Any]) -> tuple[Fact, ...]:
    return tuple(Fact(name, said(value)) for name, value in sorted(settings.items()))


def said(value: object) -> str:
    """A setting in words: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else canonical(value)
