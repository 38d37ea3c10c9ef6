"""The one interface to every model that looks at person images, and how a model's name becomes encoders."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...cache.table import Columns
from ..extraction.memory import is_shortage
from ..videos.person import image_layout
from .prompts import PROMPTS, Prompt


class Encoder(Protocol):
    """Turns person images into columns; an RGB network and a language model differ in nothing else.

    An image is uint8 RGB: [H, W, 3] for the layouts strip and single, [N, H, W, 3] for frames-N. It may have a number
    `parameters` too, those of its network: it is kept with the cache.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that changes the numbers, as JSON values; no library versions, batch size or device.

        Known before any weights are loaded, so that a cache that is complete is recognised without them.
        """
        ...

    @property
    def layout(self) -> str:
        """The person-image layout it needs: "strip", "single" or "frames-N", N frames in time order."""
        ...

    def prepare(self, images: Sequence[np.ndarray], /) -> Any:
        """What `encode` takes for one batch of images: the work that the CPU does, in a thread beside the device."""
        ...

    def encode(self, prepared: Any, /) -> Columns:
        """An array for each column, with a row for each image; called by one thread alone."""
        ...


class Loader(Protocol):
    """Loads `model` once and returns an encoder for each feature cache to be made with it."""

    def __call__(self, model: str, /, *, device: str, prompts: Sequence[Prompt] = ()) -> list[Encoder]: ...


def load_rgb(model: str, /, *, device: str, prompts: Sequence[Prompt] = ()) -> list[Encoder]:
    """One encoder with a feature per image; it asks nothing, so `prompts` is not looked at."""
    device = _one_device(device)
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
    prepare: Callable[[Sequence[np.ndarray]], Any]
    encode: Callable[[Any], Columns]
    parameters: int | None = None  # of its network, where it tells


def load_custom(spec: str, *, device: str, prompt: Prompt | None = None) -> CustomEncoder:
    """The encoder `module:Class`, made with the device and, where one is asked, the prompt.

    Its settings gain "model" and the prompt where it says nothing about them, and "source", the SHA-256 of its file.
    """
    made = _import(spec)
    asked = {} if prompt is None else {"prompt": prompt}
    try:
        encoder = made(device=device, **asked)
    except Exception as error:
        if is_shortage(error):
            raise
        raise ValueError(f"{spec}: called with {', '.join(['device', *asked])}, it failed: {_where(error)}") from error
    settings = _checked(spec, encoder)
    known = {"model": spec} | ({} if prompt is None else prompt.settings)
    prepare = getattr(encoder, "prepare", list)  # without one, encode gets the images
    steps = _blamed(spec, "prepare", prepare), _blamed(spec, "encode", encoder.encode)
    told = getattr(encoder, "parameters", None)  # of a torch module that is a function
    parameters = told if isinstance(told, int) else None
    return CustomEncoder(known | settings | {"source": _source(made)}, encoder.layout, *steps, parameters)


def _blamed(spec: str, name: str, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The user's step; what it raises says whose it is and where, but for memory that is short."""

    def blamed(given: Any) -> Any:
        try:
            return step(given)
        except Exception as error:
            if is_shortage(error):
                raise
            raise RuntimeError(f"{spec}: its {name} failed {_where(error)}") from error

    return blamed


def _where(error: Exception) -> str:
    """The innermost line of an error's traceback that is the user's own, and what was raised."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = f"in {own[-1].filename}, line {own[-1].lineno}: " if len(own) > 1 else ""
    return f"{place}{type(error).__name__}: {error}"


def _one_device(device: str) -> str:
    """What "auto" means to a network that is never larger than one device."""
    if device != "auto":
        return device
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else found.type


def _is_custom(model: str) -> bool:
    return ":" in model and not Path(model).exists()


def _import(spec: str) -> Callable[..., Any]:
    module, _, name = spec.partition(":")
    try:
        with _working_folder_importable():
            made = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(f"{spec}: cannot import {module} from {Path.cwd()} or the environment: {error}") from error
    except Exception as error:
        raise ValueError(f"{spec}: importing {module} failed {_where(error)}") from error
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
    """The settings of an encoder that has all its members; ValueError naming those that are missing or wrong."""
    wanted = {"settings": Mapping, "layout": str, "encode": Callable}
    if hasattr(encoder, "prepare"):
        wanted["prepare"] = Callable
    missing = [name for name, kind in wanted.items() if not isinstance(getattr(encoder, name, None), kind)]
    if missing:
        wants = "settings (a mapping), layout (a str), encode(prepared) and perhaps prepare(images)"
        raise ValueError(f"{spec}: an encoder has {wants}; look at its {', '.join(missing)}")
    try:
        image_layout(encoder.layout)
    except ValueError as error:
        raise ValueError(f"{spec}: {error}") from error
    try:
        json.dumps(settings := dict(encoder.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{spec}: settings must be JSON values: {error}") from error
    return settings


def _source(made: Callable[..., Any]) -> str:
    with Path(inspect.getfile(made)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
