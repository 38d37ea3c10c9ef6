"""Person images to the cache of one encoder's features; no video is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...cache.index import kinds_of
from ...cache.recipe import Recipe
from ..encoders.encoder import Encoder
from ..videos.person import ImageLayout, image_layout
from .extract import Columns, Input
from .gates import blanked, failures_of, narrowed, refuse_blind
from .images import PersonImages
from .ledger import Ledger

TRAINED_ON = {"rgb": ("feature",), "text": ("prompt_feature", "answer_feature", "probabilities")}
OUR_COLUMNS = ("batch", "crc", "failure", "image_crc", "name")


class FeatureTarget:
    """One encoder's cache: what the encoder gives for each person image, and the checksum of that image."""

    def __init__(self, encoder: Encoder, images: PersonImages, ledger: Ledger) -> None:
        self.encoder, self.images, self.ledger = encoder, images, ledger
        self._layout: ImageLayout = image_layout(encoder.layout)
        there = ledger.index.sources[0].kinds if ledger.index.sources else {}
        self._kinds = {name: kind for name, kind in there.items() if name not in OUR_COLUMNS}

    @property
    def model(self) -> str:
        return str(self.encoder.settings["model"])

    def prepare(self, inputs: list[Input], /) -> Any:
        pictures = [self._layout.blank() if one.content is None else one.content for one in inputs]
        return self.encoder.prepare(pictures)

    def encode(self, prepared: Any, inputs: list[Input], /) -> Columns:
        """One batch, checked: a row a picture in every column, of numbers or bytes."""
        found: Any = self.encoder.encode(prepared)
        columns = {name: np.asarray(column) for name, column in found.items()} if isinstance(found, Mapping) else {}
        wrong = [
            f"{name} {column.dtype} {list(column.shape)}"
            for name, column in columns.items()
            if column.shape[:1] != (len(inputs),) or column.dtype.kind not in "biufS" or name in OUR_COLUMNS
        ]
        if wrong or not columns:
            raise ValueError(
                f"{self.model}: {len(inputs)} pictures gave {'; '.join(wrong) or 'no columns'}; "
                f"wanted a row a picture, of numbers or bytes, in columns not called {' or '.join(OUR_COLUMNS)}"
            )
        kinds = _kept_as(columns)
        self._kinds = self._kinds or kinds
        if kinds != self._kinds:
            raise ValueError(f"{self.model}: gave {_said(kinds)}, but before {_said(self._kinds)}; nothing is mixed")
        return dict(columns)

    def finish(self, encoded: Columns, inputs: list[Input], /) -> Columns:
        return encoded

    def close(self, names: list[str], columns: Columns, reasons: list[str], /) -> tuple[Columns, list[str]]:
        """The rows behind the gates, and the checksum of the person image that each was made from."""
        failures = failures_of(reasons, columns)
        refuse_blind(self.model, columns, failures)
        known = self.images.checksums
        made_from = np.array([known.get(name, 0) for name in names], np.uint32)
        return {**blanked(columns, failures), "image_crc": made_from}, failures

    def try_out(self) -> int:
        """Load the encoder and show it one blank image: what is wrong with it is said now. Gives the bytes of a row."""
        columns = self.encode(self.prepare([Input(None)]), [Input(None)])
        parameters = getattr(self.encoder, "parameters", None)
        self.ledger.parameters = parameters if isinstance(parameters, int) else None
        if not columns.keys() & set(TRAINED_ON[self.ledger.recipe.kind]):
            wanted = " or ".join(TRAINED_ON[self.ledger.recipe.kind])
            raise ValueError(f"{self.model}: gave {', '.join(sorted(columns))}; training reads {wanted}")
        return sum(column.nbytes for column in columns.values() if isinstance(column, np.ndarray))


def _kept_as(columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The kinds of an encoder's columns as they will lie in the cache."""
    return kinds_of({name: narrowed(column[:0]) for name, column in columns.items()})


def _said(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in sorted(kinds.items()))


def feature_recipe(kind: str, dataset: str, encoder: Encoder, images: Recipe) -> Recipe:
    """The encoder's settings and the person images it saw."""
    settings: Mapping[str, Any] = {**encoder.settings, "person_images": images.key}
    return Recipe(kind, dataset, settings)
