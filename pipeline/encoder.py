"""The one interface to every model that looks at person images, and how a model's name becomes encoders."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .prompts import PROMPTS, Prompt

Columns = dict[str, np.ndarray]  # one array per column, first axis = rows


class Encoder(Protocol):
    """Turns person images into columns; an RGB network and a language model differ in nothing else."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes the numbers, as JSON values; no library versions, batch size or device."""
        ...

    @property
    def layout(self) -> str:
        """The person-image layout it needs: "strip"."""
        ...

    def encode(self, images: Sequence[np.ndarray], /) -> Columns:
        """A row for each uint8 RGB image [H, W, 3], computed as one batch."""
        ...


class Loader(Protocol):
    """Loads `model` once and returns an encoder for each feature cache to be made with it."""

    def __call__(self, model: str, /, *, device: str, prompts: Sequence[Prompt] = ()) -> list[Encoder]: ...


def load_rgb(model: str, /, *, device: str, prompts: Sequence[Prompt] = ()) -> list[Encoder]:
    """One encoder with a feature per image; it asks nothing, so `prompts` is not looked at."""
    if _is_custom(model):
        return [load_custom(model, device=device)]
    from .rgb import load

    return [load(model, device)]


def load_text(model: str, /, *, device: str, prompts: Sequence[Prompt] = ()) -> list[Encoder]:
    """One encoder per prompt, all on one loaded model."""
    if not prompts:
        raise ValueError(f"{model}: nothing to ask; give at least one prompt of {', '.join(PROMPTS)}")
    if _is_custom(model):
        return [load_custom(model, device=device, prompt=prompt) for prompt in prompts]
    from .llm import load

    return list(load(model, device, prompts))


ENCODERS: dict[str, Loader] = {"rgb": load_rgb, "text": load_text}


@dataclass(frozen=True)
class CustomEncoder:
    """A user's encoder with its settings completed, so that its cache knows what made it."""

    settings: Mapping[str, Any]
    layout: str
    encode: Callable[[Sequence[np.ndarray]], Columns]


def load_custom(spec: str, *, device: str, prompt: Prompt | None = None) -> CustomEncoder:
    """The encoder `module:Class`, made with the device and, where one is asked, the prompt.

    Its settings gain "model" and the prompt where it says nothing about them, and "source", the SHA-256 of its file.
    """
    made = _import(spec)
    asked = {} if prompt is None else {"prompt": prompt}
    try:
        encoder = made(device=device, **asked)
    except TypeError as error:
        raise ValueError(f"{spec}: called with {', '.join(['device', *asked])}, it failed: {error}") from error
    settings = _checked(spec, encoder)
    known = {"model": spec} | ({} if prompt is None else prompt.settings)
    return CustomEncoder(known | settings | {"source": _source(made)}, encoder.layout, encoder.encode)


def _is_custom(model: str) -> bool:
    return ":" in model and not Path(model).exists()


def _import(spec: str) -> Callable[..., Any]:
    module, _, name = spec.partition(":")
    try:
        with _working_folder_importable():
            made = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{spec}: cannot import {module} from {Path.cwd()} or the environment: {error}") from error
    if not inspect.isclass(made):
        raise ValueError(f"{spec}: the module {module} has no class {name!r}")
    return made


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    before = sys.path[:]
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _checked(spec: str, encoder: Any) -> dict[str, Any]:
    """The settings of an encoder that has all three members; ValueError naming those it has not."""
    wanted = {"settings": Mapping, "layout": str, "encode": Callable}
    missing = [name for name, kind in wanted.items() if not isinstance(getattr(encoder, name, None), kind)]
    if missing:
        wants = "settings (a mapping), layout (a str) and encode(images)"
        raise ValueError(f"{spec}: an encoder has {wants}; look at its {', '.join(missing)}")
    try:
        json.dumps(settings := dict(encoder.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{spec}: settings must be JSON values: {error}") from error
    return settings


def _source(made: Callable[..., Any]) -> str:
    with Path(inspect.getfile(made)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
