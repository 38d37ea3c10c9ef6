"""A transformers checkpoint, by hub id or folder: found, fingerprinted, and loaded whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import torch
from huggingface_hub.utils import get_session
from huggingface_hub.utils import logging as hub_logging
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import logging
from transformers.utils.hub import cached_file

from .families import EXTRAS

# else transformers asks a service to convert a stranger's .bin weights, and downloads them a second time
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "true")

ASIDE = (".md", ".png", ".jpg", ".jpeg", ".gif", ".pdf")  # files that no loader reads
OWN_ATTENTION = (None, "sdpa", "eager")  # what torch and transformers bring along
PATIENCE = 3  # seconds for the hub to answer at all; its own retries take half a minute
SPEAKING = (OSError, ValueError, ImportError, SafetensorError)  # what transformers raises with a sentence
FULL = (MemoryError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found but not loaded. A folder goes by its own name, so that moving it keeps the cache key."""

    source: str  # what transformers is given
    name: str
    fingerprint: str  # the hub's commit, or the SHA-256 of a folder's files
    config: PreTrainedConfig
    pinned: dict[str, Any]  # for every from_pretrained: the commit that was fingerprinted, and no code from strangers

    @property
    def architecture(self) -> str:
        """The class whose weights these are, or "" where the checkpoint does not say."""
        return (self.config.architectures or [""])[0]

    def class_name(self, auto: Any) -> str:
        """The class as which `auto` will load it; ValueError where `auto` knows no class for its type."""
        if type(self.config) not in auto._model_mapping:
            raise ValueError(f"{self.source}: this {self.config.model_type} cannot be loaded with {auto.__name__}")
        found = auto._model_mapping[type(self.config)]
        classes = found if isinstance(found, Sequence) else [found]
        return next((one.__name__ for one in classes if one.__name__ == self.architecture), classes[0].__name__)

    def check_class(self, auto: Any) -> None:
        """ValueError where the weights are another class's than the one that `auto` will load."""
        if (loaded := self.class_name(auto)) != (self.architecture or loaded):
            raise ValueError(f"{self.source}: holds a {self.architecture}, which loads only as {loaded}")

    def load(self, auto: Any, dtype: torch.dtype, device: str, *, exact: bool, spare: str = "") -> tuple[Any, bool]:
        """The model, ready to use on `device`, and whether the checkpoint lacks its `spare` part, which is then random.

        The device "auto" spreads it over all accelerators. ValueError where anything else is missing or, if `exact`,
        the loaded class is not the checkpoint's own.
        """
        torch.backends.cudnn.allow_tf32 = False  # a recipe's float32 is float32
        torch.backends.cuda.matmul.allow_tf32 = False
        if exact:
            self.check_class(auto)
        with quiet(downloads=True), self.explained(f"cannot be loaded with {auto.__name__}"):
            model, found = auto.from_pretrained(
                self.source,
                dtype=dtype,
                device_map=device,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **self.pinned,
            )
        absent = set(found["missing_keys"]) | {key for key, *_ in found["mismatched_keys"]}
        needed = sorted(key for key in absent if not (spare and spare in key.split(".")))
        if needed:
            fault = f"{len(needed)} weights are missing or of another shape, such as {needed[0]}"
            raise ValueError(f"{self.source}: {fault}; {_cure(needed)}")
        return model.eval().requires_grad_(False), bool(absent)

    def image_processor(self) -> Any:
        """The checkpoint's preprocessing, by torchvision where transformers finds it and by PIL elsewhere."""
        with quiet(), self.explained("has no image preprocessing"):
            return AutoImageProcessor.from_pretrained(self.source, **self.pinned)

    def read_json(self, file: str) -> dict[str, Any]:
        """What a JSON file of the checkpoint says; nothing where it has none."""
        place = {key: value for key, value in self.pinned.items() if key != "trust_remote_code"}
        with quiet(), self.explained(f"has no readable {file}"):
            path = cached_file(self.source, file, _raise_exceptions_for_missing_entries=False, **place)
            said = {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else {}

    def account(self, architecture: str, image_processor: Any) -> dict[str, Any]:
        """What a recipe says of any model of transformers, beside its dtype and its file's version.

        PIL and torchvision differ by some grey levels, so the backend is a part of it.
        """
        return {
            "engine": "transformers",
            "model": self.name,
            "fingerprint": self.fingerprint,
            "architecture": architecture,
            "preprocessing": type(image_processor).__name__,
            "backend": getattr(image_processor, "backend", "own"),
        }

    @contextmanager
    def explained(self, failure: str) -> Iterator[None]:
        """Turns what transformers raises into one ValueError that begins with the checkpoint and the failure."""
        try:
            yield
        except FULL:
            raise
        except Exception as error:  # strangers' files make transformers raise anything
            if str(error).startswith(f"{self.source}: "):  # explained already
                raise
            said = f"{self.source}: this {self.config.model_type}"
            if missing := missing_package(error):
                raise ValueError(f"{said} needs {missing}; {EXTRAS[missing]}") from error
            raise ValueError(f"{said} {failure}: {brief(error)}") from error


def _cure(missing: Sequence[str]) -> str:
    if all(key.endswith("lm_head.weight") for key in missing):
        return (
            "its config.json says that the output layer is not the input embeddings again, yet it is not stored; if "
            "the model's text_config says otherwise, set tie_word_embeddings to true at the top of config.json too"
        )
    return "get the whole checkpoint again"


def find_checkpoint(model: str) -> Checkpoint:
    """The checkpoint at a folder or, by its id, on the Hugging Face hub; a downloaded copy is used as it is."""
    folder = Path(model).expanduser()
    pinned: dict[str, Any] = {"trust_remote_code": False}
    if folder.is_dir():
        config = _config(str(folder), pinned)
        return Checkpoint(str(folder), folder.resolve().name, fingerprint(folder), config, pinned)
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ValueError(f"{model}: no such folder, and not a hub id (owner/name); check the path")
    unreachable = _unreachable()
    commit = _commit(model, unreachable)
    pinned |= {"revision": commit} | ({"local_files_only": True} if unreachable else {})
    return Checkpoint(model, model, commit, _config(model, pinned), pinned)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, but for hidden ones, texts about it and pictures."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    total = hashlib.sha256()
    for name in sorted(name for name in files if not _is_aside(name)):
        with files[name].open("rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _is_aside(name: str) -> bool:
    """Whether a file of a checkpoint's folder changes no number: .git, .cache, a README, a licence, a picture."""
    hidden = any(part.startswith(".") for part in name.split("/"))
    return hidden or name.lower().endswith(ASIDE) or name.upper().startswith("LICENSE")


def pictures(images: Sequence[np.ndarray]) -> list[Image.Image]:
    """What image processors take."""
    return [Image.fromarray(image) for image in images]


class _Silence:
    """What transformers and the hub say is set for the whole process, so threads that want silence are counted."""

    def __init__(self) -> None:
        self._lock, self._count = threading.Lock(), 0

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._before = logging.get_verbosity(), hub_logging.get_verbosity(), logging.is_progress_bar_enabled()
                logging.set_verbosity_error()
                hub_logging.set_verbosity_error()
                logging.disable_progress_bar()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                verbosity, hub, bars = self._before
                logging.set_verbosity(verbosity)
                hub_logging.set_verbosity(hub)
                if bars:
                    logging.enable_progress_bar()


_silence = _Silence()


@contextmanager
def quiet(*, downloads: bool = False) -> Iterator[None]:
    """Keeps the log lines and progress bars of transformers and the hub off the terminal.

    With `downloads` their bars are shown, where stderr is a terminal: gigabytes take minutes.
    """
    _silence.begin()
    try:
        if downloads and sys.stderr.isatty():
            logging.enable_progress_bar()
        yield
    finally:
        if downloads:
            logging.disable_progress_bar()
        _silence.end()


def missing_package(error: BaseException) -> str:
    """The package of an extra that an error complains about and that is not installed, or ""."""
    said = re.findall(r"\w+", str(error).lower())
    return next((name for name in EXTRAS if name in said and find_spec(name) is None), "")


def _config(source: str, pinned: dict[str, Any]) -> PreTrainedConfig:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source, **pinned)
    except Exception as error:  # strangers' files make transformers raise anything
        if "trust_remote_code" in str(error):
            fault = "needs code from its own repository, which is never run; look for a copy converted to transformers"
            raise ValueError(f"{source}: {fault} (often called -hf)") from error
        raise ValueError(f"{source}: not a transformers checkpoint: {brief(error)}") from error
    if (asked := config._attn_implementation) not in OWN_ATTENTION:
        raise ValueError(
            f"{source}: its config.json asks for the attention {asked!r}, which is code from elsewhere; take it out of "
            "a copy's config.json, and transformers' own is used"
        )
    return config


def _commit(model: str, unreachable: str) -> str:
    """The hub commit in use: the downloaded one if there is one, else the newest, whose config this downloads."""
    try:
        return _snapshot(model, local_files_only=True)
    except OSError:
        try:
            if unreachable:
                raise OSError(unreachable)
            return _snapshot(model, local_files_only=False)
        except OSError as error:
            raise ValueError(
                f"{model}: no folder of this name here, and the Hugging Face hub did not give it: {brief(error)} "
                "Check the spelling and the connection, or download it elsewhere and give its folder"
            ) from error


def _snapshot(model: str, *, local_files_only: bool) -> str:
    with quiet():
        return Path(str(cached_file(model, "config.json", local_files_only=local_files_only))).parent.name


def _unreachable() -> str:
    """Why the hub does not answer, or "" where it does."""
    try:
        get_session().head(huggingface_hub.constants.ENDPOINT, timeout=PATIENCE)
    except Exception as error:  # whatever the hub's own HTTP library raises
        return f"{huggingface_hub.constants.ENDPOINT} does not answer ({brief(error)})."
    return ""


def brief(error: BaseException) -> str:
    """What went wrong in one line of at most 300 characters."""
    said = str(error).strip().split("\n")[0][:300]
    return said if isinstance(error, SPEAKING) else f"{type(error).__name__}: {said}"
