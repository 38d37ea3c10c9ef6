"""`mmcl show`: what the models saw of some clips, with their answers under it, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ...cache.files import write_atomic
from ...cache.named import caches_named
from ...cache.recipe import read_recipe
from ...cache.skeletons import Skeletons, read_skeletons
from ...cache.store import Rows, decoded, find_caches, is_merged, open_cache
from ..videos.person import from_jpegs
from .sheet import Answer, Card, Panel, draw_sheet

SAMPLE = 12  # clips, where none are named
MOST = 60  # clips of a sheet
MASS = "Bars: the candidates against each other. Mass: the model's whole belief in them; small, it would say others."
NOTHING = np.zeros((0, 1, 1, 3), np.uint8)


@dataclass(frozen=True)
class Chosen:
    """The caches to show: person images, each with the text caches that were made of them; `notes` name the others."""

    panels: tuple[tuple[Rows, tuple[Rows, ...]], ...]
    notes: tuple[str, ...] = ()


def contact_sheet(
    data: Path, names: Sequence[str], out: Path, images: str | None = None, texts: Sequence[str] = ()
) -> Path:
    """Draw the named clips, or one a class, to the PNG `out` and give its path.

    `images` names one cache of person images and `texts` some of text features, by key, its beginning, or model;
    none named: all that are finished. Raises ValueError or FileNotFoundError for what is not there.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"{out}: a contact sheet is a PNG; call it {out.with_suffix('.png').name}")
    skeletons = read_skeletons(data / "skeletons.h5")
    names = _known(names, skeletons) or sample(skeletons)
    chosen = choose(data, images, texts)
    title = f"{skeletons.dataset}: {len(names)} of {len(skeletons.names):,} clips"
    sheet = draw_sheet(title, chosen.notes, read_cards(names, skeletons, chosen))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, lambda aside: sheet.save(aside, "PNG"))
    return out


def sample(skeletons: Skeletons) -> list[str]:
    """One clip a class, of at most twelve classes: always the same ones."""
    rng = np.random.default_rng(0)
    there = np.unique(skeletons.labels)
    classes = np.sort(rng.permutation(there)[:SAMPLE])
    rows = [int(rng.choice(np.flatnonzero(skeletons.labels == label))) for label in classes]
    return [skeletons.names[row] for row in rows]


def choose(data: Path, images: str | None, texts: Sequence[str]) -> Chosen:
    """The caches that are meant. Those that were named must be finished, and the texts' person images be shown."""
    pictures, unfinished = _opened(data, "person-images", [images] if images else [])
    answers, others = _opened(data, "text", texts)
    if texts and not images:
        pictures = [rows for rows in pictures if rows.recipe.key in map(_seen, answers)]
    keys = [rows.recipe.key for rows in pictures]
    blind = [f"{rows.recipe}: made of the person images {_seen(rows)}" for rows in answers if _seen(rows) not in keys]
    if texts and blind:
        raise ValueError(f"{blind[0]}, which are not among those shown: {', '.join(keys) or 'none'}")
    notes = [*unfinished, *others, *(f"not shown: {one}, which are not here" for one in blind)]
    if not pictures:
        there = "".join(f"\n  {note}" for note in notes)
        raise ValueError(f"{data}: no finished person images; make them with `mmcl extract-features`{there}")
    panels = [(rows, tuple(one for one in answers if _seen(one) == rows.recipe.key)) for rows in pictures]
    return Chosen(tuple(panels), ((MASS,) if answers else ()) + tuple(notes))


def _opened(data: Path, kind: str, wanted: Sequence[str]) -> tuple[list[Rows], list[str]]:
    """The named caches of a kind, or else all that are finished, and a note for each that is not."""
    if wanted:
        named = dict.fromkeys(folder for one in wanted for folder in caches_named(data, one, [kind]))
        return [open_cache(folder) for folder in named], []
    folders = find_caches(data, kind)
    left = [read_recipe(folder) for folder in folders if not is_merged(folder)]
    notes = [f"not shown, since it is not finished: {recipe.kind} {recipe}" for recipe in left]
    return [open_cache(folder) for folder in folders if is_merged(folder)], notes


def _seen(rows: Rows) -> str:
    return str(rows.recipe.settings.get("person_images", "-"))


def _known(names: Sequence[str], skeletons: Skeletons) -> list[str]:
    """The names, each once; ValueError for one that is none, with the nearest, and for too many."""
    for name in names:
        row_named(name, skeletons)
    if len(chosen := list(dict.fromkeys(names))) > MOST:
        raise ValueError(f"{len(chosen)} clips on one sheet: at most {MOST} are wanted; draw several sheets")
    return chosen


def row_named(name: str, skeletons: Skeletons) -> int:
    """The row of the clip of this name; ValueError with the nearest names where there is none."""
    if name in skeletons.names:
        return skeletons.names.index(name)
    near = get_close_matches(name, skeletons.names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"{name!r}: {skeletons.dataset} has no clip of this name{hint}")


def read_cards(names: Sequence[str], skeletons: Skeletons, chosen: Chosen) -> list[Card]:
    """Each clip with its class, its pictures, and what was answered."""
    label_of = dict(zip(skeletons.names, skeletons.labels.tolist(), strict=True))
    return [
        Card(name, skeletons.classes[label_of[name]], tuple(_panel(name, *panel) for panel in chosen.panels))
        for name in names
    ]


def _panel(name: str, images: Rows, texts: Sequence[Rows]) -> Panel:
    settings = images.recipe.settings
    caption = f"{settings['layout']}, person: {settings['person']}, cache {images.recipe.key}"
    answers = tuple(_answer(name, rows) for rows in texts)
    failure = failure_of(name, images)
    try:
        pictures = NOTHING if failure else pictures_of(name, images)
    except ValueError as error:
        pictures, failure = NOTHING, str(error)
    return Panel(pictures, caption, tuple(one for one in answers if not failure or one.failure != failure), failure)


def pictures_of(name: str, images: Rows) -> np.ndarray:
    row = images.row_of[name]
    image = from_jpegs(np.asarray(images.columns["jpeg"][row]), images.array("jpeg_ends")[row])
    return image if image.ndim == 4 else image[None]


def failure_of(name: str, rows: Rows) -> str:
    """Why a cache has nothing of a clip; empty where it has."""
    if name not in rows.row_of:
        return "missing: not in this cache"
    return rows.failures.get(name, "")


def _answer(name: str, rows: Rows) -> Answer:
    settings = rows.recipe.settings
    asked = rows.recipe.model, rows.recipe.prompt, str(settings.get("prompt_text", ""))
    if failure := failure_of(name, rows):
        return Answer(*asked, failure=failure)
    row, words = rows.row_of[name], [str(word) for word in settings.get("candidates", ())]
    text = decoded(rows.array("answer_text")[row : row + 1])[0].strip() if "answer_text" in rows.columns else ""
    if not words or "probabilities" not in rows.columns:
        return Answer(*asked, text)
    shares = zip(words, rows.array("probabilities")[row].tolist(), strict=True)
    return Answer(*asked, text, tuple(shares), float(rows.array("mass")[row]))
