"""The caches that somebody means, by key or model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .recipe import KINDS, Recipe, read_recipe
from .store import cache_folders


def caches_named(data: Path, wanted: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """The folders of the caches that `wanted` names: a model, a key, or the beginning of one key.

    ValueError with the list where there is none, or where several keys begin so.
    """
    found = [(folder, read_recipe(folder)) for folder in cache_folders(data)]
    known = [(folder, recipe) for folder, recipe in found if recipe.kind in kinds]
    models = [folder for folder, recipe in known if wanted == recipe.model or Path(wanted).name == recipe.model]
    keys = [folder for folder, recipe in known if wanted and recipe.key.startswith(wanted)]
    if len(keys) > 1 and not models:
        raise ValueError(f"{wanted}: {len(keys)} caches have a key that begins so; there are:{_listing(known)}")
    if not models and not keys:
        raise ValueError(f"{wanted}: no such cache in {data}; there are:{_listing(known)}")
    return models or keys


def cache_named(data: Path, wanted: str, kinds: Sequence[str] = KINDS) -> Path:
    """The folder of the one cache that `wanted` names; ValueError with the list where it is not one."""
    folders = caches_named(data, wanted, kinds)
    if len(folders) > 1:
        listing = _listing([(folder, read_recipe(folder)) for folder in folders])
        raise ValueError(f"{wanted}: {len(folders)} caches are meant; give the key of one:{listing}")
    return folders[0]


def _listing(known: Sequence[tuple[Path, Recipe]]) -> str:
    return "".join(f"\n  {recipe.kind}  {recipe}" for _, recipe in known) or " none"
