"""`mmcl extract-features` as one function: which caches are wanted, which are there, what is left to make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.recipe import Recipe, read_recipe
from ..cache.skeletons import read_skeletons
from ..cache.store import Rows, done_names, find_caches, is_merged, merge, open_cache
from .encoder import ENCODERS, Encoder
from .extract import Clips, Filled, Progress, fill_features, fill_person_images
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
    retry_failed: bool = False


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
    clips = Clips(request.data, skeletons.dataset, skeletons.names, request.retry_failed)
    make_images = _person_images(request, clips, progress)
    encoders = _encoders(request)
    images = make_images()
    reports = [images]
    for kind, encoder in encoders:
        bar = progress(f"{kind} features, {encoder.settings['model']}")
        filled = fill_features(clips, kind, images.filled.rows, encoder, batch=request.batch, progress=bar)
        reports.append(Report(filled.rows.recipe, filled.rows.folder, filled))
    return reports


def _encoders(request: Request) -> list[tuple[str, Encoder]]:
    """What was asked for, loaded, each with its cache's kind: a wrong name is found before a video is opened."""
    wanted = {"rgb": request.rgb, "text": request.llm}
    return [
        (kind, encoder)
        for kind, model in wanted.items()
        if model
        for encoder in ENCODERS[kind](model, device=request.device, prompts=request.prompts)
    ]


def _person_images(request: Request, clips: Clips, progress: Callable[[str], Progress]) -> Callable[[], Report]:
    """What gives the person images when called; what cannot begin is refused now."""
    if request.videos is None:
        rows = _cached_images(request, clips.names)
        return lambda: Report(rows.recipe, rows.folder, Filled(rows, 0, clips.names))
    videos = find_videos(request.videos, clips.names)
    boxes = _boxes(request.person or DEFAULT_DETECTOR, request.device)

    def make() -> Report:
        filled = fill_person_images(clips, videos, boxes, progress("person images"))
        return Report(filled.rows.recipe, filled.rows.folder, filled, decoded=filled.made)

    return make


def _cached_images(request: Request, names: Sequence[str]) -> Rows:
    """The person images that are there already; ValueError where there is none, or no way to tell which is meant."""
    found = [(folder, read_recipe(folder)) for folder in find_caches(request.data, "person-images")]
    fits = [folder for folder, recipe in found if _is_asked(request.person, recipe.settings["person"])]
    if len(fits) != 1:
        there = [f"\n  {one.key}  person {one.settings['person']}, {one.settings['videos']}" for _, one in found]
        raise ValueError(
            f"{request.data}: {len(fits)} caches of person images fit; "
            f"give --videos (and --person):{''.join(there) or ' none yet'}"
        )
    if missing := set(names) - done_names(fits[0]):
        raise ValueError(f"{fits[0]}: {len(missing)} clips have no person image yet; give --videos again, it resumes")
    return open_cache(fits[0]) if is_merged(fits[0]) else merge(fits[0])


def _is_asked(person: str | None, known: str) -> bool:
    """Whether a cache of the person `known` is meant; a detector's folder goes by its own name."""
    return person is None or known in (person, Path(person).name)


def _boxes(person: str, device: str) -> Boxes:
    if person == "frame":
        return WholeFrame()
    from .detector import Detector

    try:
        return Detector(person, device)
    except ValueError as error:
        raise ValueError(f"--person {error}; or take whole frames with --person frame") from error
