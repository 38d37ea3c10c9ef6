"""`mmcl extract-features` as one function: which caches are wanted, which are there, what is left to make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.recipe import Recipe, read_recipe
from ..cache.skeletons import read_skeletons
from ..cache.store import Rows, done_names, find_caches, open_cache
from .encoder import ENCODERS
from .extract import Filled, Progress, fill_features, fill_person_images
from .person import Boxes, WholeFrame
from .prompts import Prompt
from .video import find_videos

DEFAULT_DETECTOR = "hustvl/yolos-tiny"


@dataclass(frozen=True)
class Request:
    """What the command was asked for. `videos` and `person` may be left out where person images are there already."""

    data: Path
    videos: Path | None
    person: str | None
    rgb: str | None
    llm: str | None
    prompts: Sequence[Prompt]
    batch: int
    device: str


@dataclass(frozen=True)
class Report:
    """One cache that the command used or made: `decoded` counts the videos opened for it."""

    recipe: Recipe
    folder: Path
    filled: Filled
    decoded: int = 0

    @property
    def note(self) -> str:
        return f"made {self.filled.made:,} rows" if self.filled.made else "reused as it was"


def extract_features(request: Request, progress: Callable[[str], Progress]) -> list[Report]:
    """Make every cache that was asked for and is not there yet; `progress(title)` gives a bar a cache.

    Raises ValueError or FileNotFoundError for what can't begin; a bad clip is a failed row of its cache.
    """
    skeletons = read_skeletons(request.data / "skeletons.h5")
    wanted = {"rgb": request.rgb, "text": request.llm}
    images = _person_images(request, skeletons.dataset, skeletons.names, progress)
    reports = [images]
    for kind, model in wanted.items():
        for encoder in ENCODERS[kind](model, device=request.device, prompts=request.prompts) if model else ():
            title = f"{kind} features, {encoder.settings['model']}"
            filled = fill_features(
                request.data,
                kind,
                images.filled.rows,
                skeletons.names,
                encoder,
                batch=request.batch,
                progress=progress(title),
            )
            reports.append(Report(filled.rows.recipe, filled.rows.folder, filled))
    return reports


def _person_images(request: Request, dataset: str, names: Sequence[str], progress: Callable[[str], Progress]) -> Report:
    if request.videos is None:
        rows = _cached_images(request, names)
        return Report(rows.recipe, rows.folder, Filled(rows, 0))
    videos = find_videos(request.videos, names)
    boxes = _boxes(request.person or DEFAULT_DETECTOR, request.device)
    filled = fill_person_images(request.data, dataset, names, videos, boxes, progress("person images"))
    return Report(filled.rows.recipe, filled.rows.folder, filled, decoded=filled.made)


def _cached_images(request: Request, names: Sequence[str]) -> Rows:
    """The person images that are there already; ValueError where there is none, or no way to tell which is meant."""
    found = [(folder, read_recipe(folder)) for folder in find_caches(request.data, "person-images")]
    fits = [folder for folder, recipe in found if request.person in (None, recipe.settings["person"])]
    if len(fits) != 1:
        there = "".join(
            f"\n  {recipe.key}  person {recipe.settings['person']}, {recipe.settings['videos']}" for _, recipe in found
        )
        raise ValueError(
            f"{request.data}: {len(fits)} caches of person images fit; give --videos (and --person):{there or ' none yet'}"
        )
    if missing := set(names) - done_names(fits[0]):
        raise ValueError(f"{fits[0]}: {len(missing)} clips have no person image yet; give --videos again, it resumes")
    return open_cache(fits[0])


def _boxes(person: str, device: str) -> Boxes:
    if person == "frame":
        return WholeFrame()
    from .detector import Detector

    try:
        return Detector(person, device)
    except ValueError as error:
        raise ValueError(f"--person {error}; or take whole frames with --person frame") from error
