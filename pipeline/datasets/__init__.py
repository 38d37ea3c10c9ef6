"""The data sets that `mmcl prepare` knows, by name: a new one is a file beside these and a line here."""

from __future__ import annotations

from collections.abc import Callable
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
