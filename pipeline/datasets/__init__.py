"""The data sets that `mmcl prepare` knows, by name: a new one is a file beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...cache.words import did_you_mean
from ..preparation.prepare import RawDataset
from .ctrgcn import CtrGcn
from .folder import Folder
from .ntu import Ntu60, Ntu120
from .nw_ucla import NwUcla
from .pyskl import Pyskl
from .sysu import Sysu
from .utd_mhad import UtdMhad

DATASETS: dict[str, Callable[..., RawDataset]] = {
    "ntu60": Ntu60,
    "ntu120": Ntu120,
    "nw-ucla": NwUcla,
    "utd-mhad": UtdMhad,
    "sysu": Sysu,
    "pyskl": Pyskl,
    "ctrgcn": CtrGcn,
    "folder": Folder,
}
FORMATS = ("pyskl", "ctrgcn", "folder")  # of any data set: it is called as the folder that it is prepared into


def open_dataset(name: str, raw: Path, **options: object) -> RawDataset:
    """The raw data set of a name at `raw`; ValueError with the known names for another.

    `options` (layout, split_by, test, seed) are a folder's own; None is what was not said.
    """
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS, cutoff=0.4)
        raise ValueError(f"no data set {name!r}: {hint}known are {', '.join(DATASETS)}")
    said = {option: value for option, value in options.items() if value is not None}
    if said and DATASETS[name] is not Folder:
        asked = ", ".join(f"--{option.replace('_', '-')}" for option in said)
        raise ValueError(f"{asked}: for a folder of one's own; {name} has its own layout and splits")
    return DATASETS[name](raw, **said)


def place_of(name: str, raw: Path, out: Path | None) -> tuple[str, Path]:
    """What a data set is called, and where its cache goes: data/NAME where `out` is not given.

    ValueError where data of one's own would be called as a published data set.
    """
    if name not in FORMATS:
        return name, out or Path("data") / name
    out = out or Path("data") / raw.resolve().stem
    own = out.resolve().name
    if own in DATASETS and own not in FORMATS:
        raise ValueError(f"{out}: {own} is a published data set; give your own another --out")
    return own, out
