"""What the registries know: data sets, backbones, losses and families of encoders."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

from mmcl.pipeline.datasets import DATASETS
from mmcl.pipeline.encoders.families import (
    KNOWN_NOT_TO_WORK,
    LLM_FAMILIES,
    RGB_FAMILIES,
    TORCHVISION_LLM_TYPES,
    TRIED_LLM_TYPES,
    Family,
)
from mmcl.pipeline.preparation.dataset import Facts
from mmcl.pipeline.preparation.layouts import KINECT_V2
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.backbones.cost import PUBLISHED, cost
from mmcl.trainer.colearning.classify import CLASSIFY

from .tables import code, table


def datasets_markdown() -> str:
    """A line a data set: what it is, its classes and joints, its splits with the clips that the publication counts."""
    rows = [(code(name), _about(made), *_facts(made)) for name, made in DATASETS.items()]
    return table(("name", "what it is", "classes, joints", "splits: train / test as published"), rows)


def _about(made: object) -> str:
    said = inspect.getdoc(sys.modules[made.__module__]) or ""
    return said.partition("\n")[0]


def _facts(made: object) -> tuple[str, str]:
    """Of the class, or of its module where a folder decides the rest; those of a format are in its files."""
    facts = getattr(made, "facts", getattr(sys.modules[made.__module__], "FACTS", None))
    if not isinstance(facts, Facts):
        return "as the files say", "as the files say"
    splits = [
        code(name) + (f" {rule.published[0]:,} / {rule.published[1]:,}" if rule.published else "")
        for name, rule in facts.splits.items()
    ]
    return f"{len(facts.classes)}, {facts.layout.name}", ", ".join(splits)


def backbones_markdown() -> str:
    """A line a backbone: its cost for a clip of two bodies, 25 joints, 64 frames and 120 classes."""
    rows = []
    for name in BACKBONES:
        found, said = cost(name, KINECT_V2), PUBLISHED.get(name)
        published = "" if said is None or said.parameters is None else f"{said.parameters} M, {said.multiply_adds} G"
        source = "" if said is None else said.source
        rows.append((code(name), f"{found.parameters:,}", f"{found.multiply_adds / 1e9:.2f} G", published, source))
    return table(("`backbone`", "parameters", "multiply-adds", "published", "source"), rows)


def losses_markdown() -> str:
    rows = [(code(name), (inspect.getdoc(loss) or "").partition("\n")[0]) for name, loss in CLASSIFY.items()]
    return table(("`loss`", "what it is"), rows)


def encoders_markdown() -> str:
    """The families that are tested, and what is known of other types."""
    return "\n".join(
        (
            "### Multimodal LLMs (`--llm`)\n",
            _families(LLM_FAMILIES),
            f"Tried once, not tested: {', '.join(map(code, TRIED_LLM_TYPES))}.\n",
            f"Take torchvision: {', '.join(map(code, TORCHVISION_LLM_TYPES))}.\n",
            "### RGB and video networks (`--rgb`)\n",
            _families(RGB_FAMILIES),
            "### Known not to work\n",
            table(("type", "why"), [(code(kind), reason) for kind, reason in KNOWN_NOT_TO_WORK]),
        )
    )


def _families(families: Sequence[Family]) -> str:
    """A line a family; the person images that all of them look at are said once."""
    layouts = list(dict.fromkeys(family.layout for family in families))
    alike = len(layouts) == 1
    heads = ("family", "types", "for example", *(() if alike else ("person images",)), "needs, note")
    rows = [
        (
            *(family.name, ", ".join(map(code, family.types)), code(family.example)),
            *(() if alike else (family.layout,)),
            "; ".join(part for part in (family.needs and code(family.needs), family.note) if part),
        )
        for family in families
    ]
    return (f"Person images of all: {layouts[0]}.\n\n" if alike else "") + table(heads, rows)
