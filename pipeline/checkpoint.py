"""A transformers checkpoint, by hub id or folder: found, fingerprinted, and loaded whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import logging as hub_logging
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import logging
from transformers.utils.hub import cached_file

UNLOADABLE = (OSError, ValueError, ImportError, SafetensorError)


@dataclass(frozen=True)
class Checkpoint:
    """A model that was found but not loaded. A folder goes by its own name, so that moving it keeps the cache key."""

    source: str  # what transformers is given
    name: str
    fingerprint: str  # the hub's commit, or the SHA-256 of a folder's files
    config: PreTrainedConfig

    @property
    def architecture(self) -> str:
        """The class whose weights these are, or "" where the checkpoint does not say."""
        return (self.config.architectures or [""])[0]

    @property
    def pinned(self) -> dict[str, Any]:
        """Arguments for every from_pretrained: the commit that was fingerprinted, and no code from the checkpoint."""
        folder = Path(self.source).is_dir()
        return {"trust_remote_code": False} | ({} if folder else {"revision": self.fingerprint})

    def load(self, auto: Any, dtype: torch.dtype, device: str, *, exact: bool, spare: str = "") -> tuple[Any, bool]:
        """The model, ready to use on `device`, and whether the checkpoint lacks its `spare` part, which is then random.

        ValueError where anything else is missing or, if `exact`, the loaded class is not the checkpoint's own.
        """
        torch.backends.cudnn.allow_tf32 = False  # a recipe's float32 is float32
        with quiet(), self.explained(f"cannot be loaded with {auto.__name__}"):
            model, found = auto.from_pretrained(
                self.source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **self.pinned
            )
        if exact and self.architecture not in ("", type(model).__name__):
            raise ValueError(f"{self.source}: holds a {self.architecture}, which loads only as {type(model).__name__}")
        absent = set(found["missing_keys"]) | {key for key, *_ in found["mismatched_keys"]}
        needed = sorted(key for key in absent if not (spare and spare in key.split(".")))
        if needed:
            fault = f"{len(needed)} weights are missing or of another shape, such as {needed[0]}"
            raise ValueError(f"{self.source}: {fault}; get the whole checkpoint again")
        return model.eval().requires_grad_(False).to(device), bool(absent)

    def image_processor(self) -> Any:
        """The checkpoint's preprocessing, by PIL even where torchvision is installed: they differ by a grey level."""
        with quiet(), self.explained("has no image preprocessing"):
            return AutoImageProcessor.from_pretrained(self.source, backend="pil", **self.pinned)

    def account(self, model: Any, image_processor: Any) -> dict[str, Any]:
        """What a recipe says of any model of transformers, beside its dtype and its file's version."""
        return {
            "engine": "transformers",
            "model": self.name,
            "fingerprint": self.fingerprint,
            "architecture": type(model).__name__,
            "preprocessing": type(image_processor).__name__,
            "backend": "pil",
        }

    @contextmanager
    def explained(self, failure: str) -> Iterator[None]:
        """Turns what transformers raises into one ValueError that begins with the checkpoint and the failure."""
        try:
            yield
        except UNLOADABLE as error:
            raise ValueError(f"{self.source}: this {self.config.model_type} {failure}: {_brief(error)}") from error


def find_checkpoint(model: str) -> Checkpoint:
    """The checkpoint at a folder or, by its id, on the Hugging Face hub; a downloaded copy is used as it is."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        config = _config(str(folder))
        return Checkpoint(str(folder), folder.resolve().name, fingerprint(folder), config)
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ValueError(f"{model}: no such folder, and not a hub id (owner/name); check the path")
    commit = _commit(model)
    return Checkpoint(model, model, commit, _config(model, revision=commit))


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, but for hidden ones (.git, .cache)."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    total = hashlib.sha256()
    for name in sorted(name for name in files if not any(part.startswith(".") for part in name.split("/"))):
        with files[name].open("rb") as file:
            total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def pictures(images: Sequence[np.ndarray]) -> list[Image.Image]:
    """What image processors take; for no images one blank, whose row is cut off, so that no rows still have columns."""
    return [Image.fromarray(image) for image in images] or [Image.new("RGB", (32, 32))]


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' and the hub's log lines and progress bars off the terminal."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = hub_logging.get_verbosity()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub)
        if bars:
            logging.enable_progress_bar()


def _config(source: str, **pinned: str) -> PreTrainedConfig:
    try:
        with quiet():
            return AutoConfig.from_pretrained(source, trust_remote_code=False, **pinned)
    except UNLOADABLE as error:
        raise ValueError(f"{source}: not a transformers checkpoint: {_brief(error)}") from error


def _commit(model: str) -> str:
    """The hub commit in use: the downloaded one if there is one, else the newest, whose config this downloads."""
    try:
        return _snapshot(model, local_files_only=True)
    except OSError:
        try:
            return _snapshot(model, local_files_only=False)
        except OSError as error:
            raise ValueError(
                f"{model}: no folder of this name here, and the Hugging Face hub did not give it: {_brief(error)} "
                "Check the spelling and the connection, or download it elsewhere and give its folder"
            ) from error


def _snapshot(model: str, *, local_files_only: bool) -> str:
    with quiet():
        return Path(str(cached_file(model, "config.json", local_files_only=local_files_only))).parent.name


def _brief(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
