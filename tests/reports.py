"""Reports to look at: evaluations with made-up scores, caches of pictures and answers, pages as a parser sees them."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TEST, Skeletons, read_skeletons, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.cache.table import Ragged
from mmcl.tests.training import TINY, planned
from mmcl.trainer.config import Config
from mmcl.trainer.run import write_run
from mmcl.trainer.testing.evaluate import Evaluation
from mmcl.trainer.testing.metrics import measure
from mmcl.trainer.testing.scores import Scores


@dataclass
class Page(HTMLParser):
    """A page in parts: how often each element is there, its attributes, its text, its scripts and its style."""

    source: str
    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._inside: list[str] = []
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self.parts.setdefault(tag, []).append("")
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.parts[self._inside[-1]][-1] += data
        else:
            self.text += data if data.startswith(" ") else f" {data}"

    def values(self, attribute: str) -> list[str]:
        return [value for _, name, value in self.attributes if name == attribute]

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return json.loads(self.parts["script"][0])


def page_of(path: Path) -> Page:
    return Page(path.read_text())


def evaluation(folder: Path, run_folder: Path, config: Config = TINY, *, seed: int = 0, **changes: Any) -> Evaluation:
    """Made-up scores of the test clips of a data set, of a run that is there but for its weights."""
    caches = {kind: None if (folder / kind).exists() else "none" for kind in ("rgb", "text")}
    run, skeletons = replace(planned(folder, config, **caches).run, **changes), read_skeletons(folder / "skeletons.h5")
    rows = skeletons.rows(config.split, TEST)
    labels, rng = skeletons.split_labels(config.split)[rows], np.random.default_rng(seed)
    values = rng.normal(size=(len(rows), len(run.classes))).astype(np.float32) + 1.5 * np.eye(len(run.classes))[labels]
    scores = Scores(tuple(skeletons.names[row] for row in rows), values.astype(np.float32), labels, run.classes)
    out = run_folder / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    write_run(run_folder, run)
    found = measure(scores.values, labels)
    return Evaluation(run, skeletons.dataset, found, 0, found.top1, 12_345, out, ["epoch: last epoch"], scores)


def renamed(data: Path, *, classes: tuple[str, ...], suffix: str) -> Skeletons:
    """The data set with other class names, and something at the end of every clip's name."""
    found = read_skeletons(data / "skeletons.h5")
    changed = replace(found, classes=classes, names=tuple(name + suffix for name in found.names))
    write_skeletons(data / "skeletons.h5", changed)
    return read_skeletons(data / "skeletons.h5")


def jpeg(colour: tuple[int, int, int] = (180, 40, 30)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (96, 64), colour).save(content, "JPEG")
    return content.getvalue()


def teach(
    data: Path,
    *,
    answer: str = "Yes, a cup",
    unreadable: tuple[str, ...] = (),
    failed: str = "",
    finished: bool = True,
) -> Path:
    """Person images and a model's answers for all clips; the images' cache.

    Some images are no JPEG; with a reason in `failed` no clip has an image, nor an answer.
    """
    skeletons = read_skeletons(data / "skeletons.h5")
    names = list(skeletons.names)
    seen = Recipe("person-images", skeletons.dataset, {"layout": "strip", "person": "frame"})
    pictures = [b"not a jpeg" if name in unreadable else jpeg((9 * row, 40, 30)) for row, name in enumerate(names)]
    files = [np.frombuffer(picture, np.uint8) for picture in pictures]
    ends = np.array([[len(file)] for file in files], np.int32)
    images = create_cache(data, seen)
    write_part(images, 0, names, [failed] * len(names), {"jpeg": Ragged.of(files), "jpeg_ends": ends})
    asked = {"model": "llm", "prompt": "holding", "prompt_text": "What is held?", "candidates": ["yes", "no"]}
    texts = create_cache(data, Recipe("text", skeletons.dataset, {**asked, "person_images": seen.key}))
    rng = np.random.default_rng(0)
    columns = {
        "prompt_feature": rng.normal(size=(len(names), 6)).astype(np.float32),
        "answer_feature": rng.normal(size=(len(names), 6)).astype(np.float32),
        "probabilities": np.tile(np.array([[0.75, 0.25]], np.float32), (len(names), 1)),
        "mass": np.ones(len(names), np.float32),
        "answer_text": np.array([answer.encode()] * len(names), "S256"),
    }
    write_part(texts, 0, names, [failed] * len(names), columns)
    merge(texts)
    if finished:
        merge(images)
    return images
