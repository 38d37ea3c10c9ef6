"""Where the videos are: found by the samples' names, in the ways in which data sets lay them out."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .video import IMAGES, SUFFIXES, has_suffix

# what data sets put behind the sample's name: the commonest counts, of equals the one that says colour
ENDINGS = ("_rgb", "_color", "", "_depth")
VIEW = re.compile("view_([0-9]+)")


@dataclass(frozen=True)
class Videos:
    """The videos found for the samples, by name, and for each sample without one what was looked for.

    A path is a file, or a folder whose images are the frames. `pattern` is what their names share, such as
    "{name}_depth": wherever they lie, videos that are called so are taken for the same.
    """

    paths: dict[str, Path]
    pattern: str
    missing: dict[str, str]


def find_videos(folder: Path, names: Sequence[str]) -> Videos:
    """The video of each sample, by name, anywhere under `folder`.

    Raises FileNotFoundError or ValueError where there is no folder, no fitting video, or two for one sample.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of videos")
    found = _videos_by_name(folder, {name + ending for name in names for ending in ENDINGS})
    ending = max(ENDINGS, key=lambda ending: sum(name + ending in found for name in names))
    paths = {name: found[name + ending] for name in names if name + ending in found}
    if paths:
        missing = {name: name + ending for name in names if name not in paths}
        return Videos(_single(paths), f"{{name}}{ending}", missing)
    raise ValueError(f"{folder}: no video of any of {len(names)} samples; {_what_was_looked_for(names, sorted(found))}")


def sample_names(here: str, entry: str) -> list[str]:
    """What a video or folder of images may be called that lies in the folder `here` as `entry`.

    SYSU's frames in PERSON/video1/rgb are PERSON_video1_rgb, one's own CLASS/clip.mp4 may be CLASS_clip. In
    Northwestern-UCLA's folder view_1, a01_s01_e00 is the clip a01_s01_e00_v01.
    """
    return [f"{before}{entry}{behind}" for before, behind in _affixes(here)]


@lru_cache
def _affixes(here: str) -> list[tuple[str, str]]:
    above, folder = ["", *here.split("/")][-2:]
    view = VIEW.fullmatch(folder)
    of_view = [("", f"_v{int(view[1]):02}")] if view else []
    return [("", ""), (f"{folder}_", ""), (f"{above}_{folder}_", ""), *of_view]


def _videos_by_name(folder: Path, wanted: set[str]) -> dict[str, list[str]]:
    """The video files and folders of images anywhere under `folder`, by name, and by the wanted names they may have.

    A folder that has a wanted name and an image in it is not walked: a data set's frames are millions.
    """
    found = defaultdict[str, list[str]](list)
    for here, folders, files in os.walk(folder):
        clips = {n for n in folders if not wanted.isdisjoint(sample_names(here, n)) and _holds_images(here, n)}
        folders[:] = [name for name in folders if name not in clips]
        videos = [(file[: file.rindex(".")], file) for file in files if has_suffix(file, SUFFIXES)]
        for stem, entry in (*((name, name) for name in clips), *videos):
            for name in {stem, *wanted.intersection(sample_names(here, stem))}:
                found[name].append(f"{here}/{entry}")
        if any(has_suffix(file, IMAGES) for file in files):
            found[Path(here).name].append(here)
    return found


def _holds_images(here: str, name: str) -> bool:
    with os.scandir(f"{here}/{name}") as entries:
        return any(has_suffix(entry.name, IMAGES) for entry in entries)


def _single(paths: Mapping[str, list[str]]) -> dict[str, Path]:
    for name, fitting in paths.items():
        if len(fitting) > 1:
            one, two, *_ = sorted(fitting)
            raise ValueError(
                f"{name}: {len(fitting)} videos of this name ({one}, {two}); "
                "give the folder of one kind, or say which with --video-pattern"
            )
    return {name: Path(fitting[0]) for name, fitting in paths.items()}


def _what_was_looked_for(names: Sequence[str], found: list[str]) -> str:
    looked = ", ".join(f"{names[0]}{ending}" for ending in ENDINGS)
    return (
        f"looked for {looked} ({' '.join(SUFFIXES)}); found {', '.join(found[:3]) or 'no video at all'}; "
        "say how they are called with --video-pattern"
    )
