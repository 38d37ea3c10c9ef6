"""What the teachers saw and said of a clip, from the data set's caches where they are there; never an error."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...cache.recipe import read_recipe
from ...cache.store import Rows, decoded, find_caches, is_merged, open_cache
from ...cache.table import Column, Ragged, checksums
from .content import Answer, Candidate, Picture, Seen

PICTURES, TEXTS, WORDS = 8, 3, 12  # of a clip, at most: pictures, language models, candidates
SIDE, LARGEST = 480, 4096  # pixels: of a picture in the report, and of one that is opened
QUALITY = 82
ANSWER, QUESTION = 600, 400  # characters that are shown
# whatever a stranger's cache or picture makes of reading it: the report says so and goes on
UNREADABLE = ValueError, OSError, KeyError, IndexError, TypeError, Image.DecompressionBombError


@dataclass(frozen=True)
class Teachers:
    """Opened caches of person images and of answers, and why others are not; `taught` are the keys of the run's."""

    images: Rows | None
    texts: tuple[Rows, ...]
    taught: frozenset[str]
    missing: tuple[str, ...]

    @property
    def there(self) -> bool:
        return self.images is not None or bool(self.texts)

    def of(self, name: str) -> Seen:
        """What is known of one clip, every gap in words."""
        answers = tuple(self._answer(rows, name) for rows in self.texts)
        if self.images is None:
            return Seen((), "", answers, ("no person images are in the caches",))
        settings = self.images.recipe.settings
        caption = f"{settings.get('layout', 'person image')}, person: {settings.get('person', '?')}"
        try:
            return Seen(tuple(_pictures(self.images, name)), caption, answers)
        except UNREADABLE as error:
            return Seen((), caption, answers, (f"no person image: {_reason(error)}",))

    def _answer(self, rows: Rows, name: str) -> Answer:
        settings, taught = rows.recipe.settings, rows.recipe.key in self.taught
        asked = rows.recipe.model, rows.recipe.prompt, str(settings.get("prompt_text", ""))[:QUESTION]
        try:
            row = checked_row(rows, name)
            text = decoded(rows.array("answer_text")[row : row + 1])[0].strip() if "answer_text" in rows.columns else ""
            return Answer(*asked, _cut(text), _candidates(rows, row), taught)
        except UNREADABLE as error:
            return Answer(*asked, taught=taught, failure=_reason(error))


def open_teachers(data: Path, dataset: str, taught: Sequence[str]) -> Teachers:
    """The caches under a data set's folder: the answers of the run's own teachers first, and the images they saw.

    `taught` are the keys of the caches that the run was trained on.
    """
    texts, gaps = _opened(data, "text", dataset)
    texts.sort(key=lambda rows: rows.recipe.key not in taught)
    images, others = _opened(data, "person-images", dataset)
    seen = [str(rows.recipe.settings.get("person_images")) for rows in texts]
    images.sort(key=lambda rows: seen.index(rows.recipe.key) if rows.recipe.key in seen else len(seen))
    if len(texts) > TEXTS:
        gaps.append(f"{len(texts) - TEXTS} more caches of answers are there and not shown")
    if not images and not texts:
        gaps.append(f"No person images and no answers: {data} has no finished cache of them; the result needs none")
    return Teachers(images[0] if images else None, tuple(texts[:TEXTS]), frozenset(taught), (*others, *gaps))


def _opened(data: Path, kind: str, dataset: str) -> tuple[list[Rows], list[str]]:
    """The finished caches of a kind that are this data set's, and why others can't be read."""
    found, gaps = list[Rows](), list[str]()
    for folder in find_caches(data, kind):
        try:
            recipe = read_recipe(folder)
            if recipe.dataset != dataset:
                gaps.append(f"{kind} {recipe.key}: of {recipe.dataset}, not shown")
            elif not is_merged(folder):
                gaps.append(f"{kind} {recipe}: not finished, not shown")
            else:
                found.append(open_cache(folder))
                _ = found[-1].row_of, found[-1].failures
        except UNREADABLE as error:
            gaps.append(f"{kind} {folder.name}: {_reason(error)}")
    return found, gaps


def checked_row(rows: Rows, name: str) -> int:
    """The row of a clip, whole; ValueError with the reason where there is none, or it failed, or is damaged."""
    if name not in rows.row_of:
        raise ValueError("not in this cache")
    if reason := rows.failures.get(name):
        raise ValueError(reason)
    row = rows.row_of[name]
    alone: dict[str, Column] = {
        column: Ragged.of([values[row]]) if isinstance(values, Ragged) else values[row : row + 1]
        for column, values in rows.columns.items()
    }
    if int(checksums(alone)[0]) != rows.checksums[name]:
        raise ValueError("damaged in the cache (`mmcl cache verify` names such rows)")
    return row


def _pictures(images: Rows, name: str) -> Iterator[Picture]:
    """Some of a clip's pictures in time order."""
    row = checked_row(images, name)
    data, ends = np.asarray(images.columns["jpeg"][row]), images.array("jpeg_ends")[row].tolist()
    files = [data[start:end].tobytes() for start, end in zip([0, *ends], ends, strict=False)]
    for number in np.unique(np.linspace(0, len(files) - 1, min(len(files), PICTURES)).round().astype(int)).tolist():
        yield picture_of(files[number])


def picture_of(content: bytes) -> Picture:
    """A JPEG drawn anew, so that nothing but its pixels reaches the page; OSError or ValueError where it is none."""
    with Image.open(io.BytesIO(content), formats=("JPEG",)) as found:
        if max(found.size) > LARGEST:
            raise ValueError(f"a picture of {found.width} x {found.height}, wanted at most {LARGEST}")
        image = found.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    image.info.clear()  # a comment would be written again
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    encoded = base64.b64encode(out.getvalue()).decode()
    return Picture(f"data:image/jpeg;base64,{encoded}", image.width, image.height)


def _candidates(rows: Rows, row: int) -> tuple[Candidate, ...]:
    """The candidate answers with their probabilities; none where the prompt has none."""
    words = [str(word) for word in rows.recipe.settings.get("candidates", ())]
    if not words or "probabilities" not in rows.columns:
        return ()
    shares = np.nan_to_num(np.atleast_1d(rows.array("probabilities")[row])).tolist()
    return tuple(Candidate(*pair) for pair in zip(words, shares, strict=False))[:WORDS]


def _cut(text: str) -> str:
    return text if len(text) <= ANSWER else f"{text[:ANSWER]}…"


def _reason(error: Exception) -> str:
    """One line of an error."""
    return " ".join(str(error).split()) or type(error).__name__
