"""The data sets that `mmcl prepare` knows, by name: a new one is a file beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from ..prepare import RawDataset
from .folder import Folder
from .nw_ucla import NwUcla
from .utd_mhad import UtdMhad

DATASETS: dict[str, Callable[[Path], RawDataset]] = {
    "nw-ucla": NwUcla,
    "utd-mhad": UtdMhad,
    "folder": Folder,
}


def open_dataset(name: str, raw: Path) -> RawDataset:
    """The raw data set of a name in the folder `raw`; ValueError with the known names for another."""
    if name not in DATASETS:
        near = get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"no data set {name!r}: {hint}known are {', '.join(DATASETS)}")
    return DATASETS[name](raw)


def own_name(out: Path) -> str:
    """What one's own data set is called: its folder's name, if that is no published data set's."""
    name = out.resolve().name
    if name in DATASETS and name != "folder":
        raise ValueError(f"{out}: {name} is a published data set; give your own another --out")
    return name
