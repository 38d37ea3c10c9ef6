"""What a language model is handed for an image and a question: the checkpoint's own processor, and how it is asked."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import transformers
from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME
from transformers.utils.import_utils import is_torchvision_available

from .checkpoint import Checkpoint, brief, pictures, quiet

THINKING = "<think>"
NAMED_IN = (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME, "tokenizer_config.json")  # where transformers looks, in its order


def load_processor(checkpoint: Checkpoint) -> Any:
    """The checkpoint's processor, padding on the left as generation needs it; no videos without torchvision.

    ValueError where it has none for images and text, or where that needs a package that is not installed.
    """
    with quiet(), checkpoint.explained("has no processor"):
        kind = _class(checkpoint)
        if is_torchvision_available() or kind is None or "video_processor" not in kind.get_attributes():
            processor = AutoProcessor.from_pretrained(checkpoint.source, **checkpoint.pinned)
        else:
            processor = _without_videos(kind, checkpoint)
    absent = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if absent:
        raise ValueError(f"{checkpoint.source}: its {type(processor).__name__} has no {' and no '.join(absent)}")
    processor.tokenizer.padding_side = "left"
    processor.tokenizer.pad_token = processor.tokenizer.pad_token or processor.tokenizer.eos_token
    _try(checkpoint, processor)
    return processor


def _try(checkpoint: Checkpoint, processor: Any) -> None:
    """ValueError where a blank image and a question are too much for it: better now than after gigabytes of weights."""
    try:
        with quiet():
            asked = ask(processor, [np.zeros((480, 480, 3), np.uint8)], "Is it?")["input_ids"][0]
    except Exception as error:  # whatever its template and its code raise
        said = f"{checkpoint.source}: its {type(processor).__name__} cannot be asked about an image"
        raise ValueError(f"{said}: {brief(error)}") from error
    if processor.tokenizer.decode(asked).rstrip().endswith(THINKING):
        raise ValueError(
            f"{checkpoint.source}: its chat template has the answer begin with {THINKING}, so that the first words are "
            "thoughts and not the answer; take the model's form that answers at once (often called -Instruct)"
        )


def ask(processor: Any, images: Sequence[np.ndarray], text: str) -> Any:
    """A padded batch that puts `text` to each image: through the chat template where there is one, else as it is."""
    shown, own = pictures(images), getattr(processor, "chat_template", None)
    if own is None and processor.tokenizer.chat_template is None:
        return processor(images=shown, text=[text] * len(shown), padding=True, return_tensors="pt")
    question = {"type": "text", "text": text}
    return processor.apply_chat_template(
        [[{"role": "user", "content": [{"type": "image", "image": image}, question]}] for image in shown],
        chat_template=None if own else processor.tokenizer.get_chat_template(),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        enable_thinking=False,
        processor_kwargs={"padding": True},
    )


class _NoVideos:
    """Stands in for a video processor, which transformers has for torchvision only."""

    model_input_names: Sequence[str] = ()

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _class(checkpoint: Checkpoint) -> Any:
    """The processor's class: the one that a file of the checkpoint names, else that of its type, or None."""
    said = (checkpoint.read_json(file).get("processor_class") for file in NAMED_IN)
    named = next((getattr(transformers, name, None) for name in said if isinstance(name, str)), None)
    known = type(checkpoint.config) in PROCESSOR_MAPPING
    return named or (PROCESSOR_MAPPING[type(checkpoint.config)] if known else None)


def _without_videos(kind: Any, checkpoint: Checkpoint) -> Any:
    check = kind.check_argument_for_proper_class
    relaxed = {
        "__module__": kind.__module__,
        "check_argument_for_proper_class": lambda self, name, part: (
            type(part) if isinstance(part, _NoVideos) else check(self, name, part)
        ),
    }
    parts = [_part(checkpoint, name) for name in kind.get_attributes()]
    said, _ = kind.get_processor_dict(checkpoint.source, **checkpoint.pinned)
    known = set(inspect.signature(kind.__init__).parameters) - set(kind.get_attributes())
    return type(kind.__name__, (kind,), relaxed)(*parts, **{key: said[key] for key in known & said.keys()})


def _part(checkpoint: Checkpoint, name: str) -> Any:
    if name == "image_processor":
        return checkpoint.image_processor()
    if name == "video_processor":
        return _NoVideos()
    auto = AutoTokenizer if name == "tokenizer" else AutoFeatureExtractor
    return auto.from_pretrained(checkpoint.source, **checkpoint.pinned)
