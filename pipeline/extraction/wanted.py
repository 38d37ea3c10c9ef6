"""What a command means: which prompts, and which person images, made of its videos or there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...cache.recipe import Recipe, read_recipe
from ...cache.skeletons import Skeletons
from ...cache.store import find_caches
from ..encoders.prompts import PROMPTS, Prompt, get_prompt, read_prompts
from ..videos.person import Boxes, SkeletonBoxes, WholeFrame

DEFAULT_DETECTOR = "hustvl/yolos-tiny"
DEFAULT_PROMPT = "holding-object"


def choose_prompts(names: Sequence[str] | None, file: Path | None) -> list[Prompt]:
    """The prompts of these names, out of ours and a user's file; no names: all of the file, or the paper's first."""
    own = read_prompts(file) if file else {}
    return [get_prompt(name, PROMPTS | own) for name in dict.fromkeys(names or own or [DEFAULT_PROMPT])]


def find_boxes(person: str | None, skeletons: Skeletons, device: str) -> Boxes:
    """What `--person` names; nothing said: the skeleton where it is known in the picture, else the usual detector."""
    if person == "frame":
        return WholeFrame()
    if person == "skeleton" or (person is None and skeletons.image_points is not None):
        return SkeletonBoxes(skeletons)
    from ..videos.detector import Detector

    people: Mapping[str, int] = dict(zip(skeletons.names, skeletons.bodies.tolist(), strict=True))
    try:
        return Detector(person or DEFAULT_DETECTOR, device, people)
    except ValueError as error:
        raise ValueError(f"--person {error}; or take whole frames with --person frame") from error


def known_person(data: Path) -> str | None:
    """What `--person` was for all person images that are there, where that can be said again; else None."""
    known = {str(read_recipe(folder).settings["person"]) for folder in find_caches(data, "person-images")}
    person = known.pop() if len(known) == 1 else ""
    return person if person in ("frame", "skeleton") or "/" in person else None


def known_images(data: Path, layout: str, person: str | None, whom: str) -> Recipe:
    """The recipe of the person images of a layout that are there; `whom` is the model that wants them.

    ValueError where there are none, or no way to tell which are meant.
    """
    found = [read_recipe(folder) for folder in find_caches(data, "person-images")]
    fits = [one for one in found if one.settings["layout"] == layout and _is_asked(person, one.settings["person"])]
    if len(fits) == 1:
        return fits[0]
    listed = _listed(fits or found)
    if fits:
        raise ValueError(f"{data}: {len(fits)} caches of {layout!r} person images fit; say which with --person{listed}")
    raise ValueError(
        f"{data}: {whom} wants person images laid out as {layout!r}, which are not there; "
        f"give --videos, and they are made{listed or '; there are none yet'}"
    )


def _listed(recipes: Sequence[Recipe]) -> str:
    return "".join(
        f"\n  {one.key}  {one.settings['layout']}, person {one.settings['person']}, {one.settings['videos']}"
        for one in recipes
    )


def _is_asked(person: str | None, known: str) -> bool:
    """Whether a cache of the person `known` is meant; a detector's folder goes by its own name."""
    return person is None or known in (person, Path(person).name)
