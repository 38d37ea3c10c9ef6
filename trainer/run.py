"""A run's folder: what it was made of, its weights, its state, its metrics.

run.json             config, data, split, classes, layout, feature keys, missing clips, start, versions
model.safetensors    the network, skeletons only
heads.safetensors    FAM, FRM and their feature statistics
state.pt             what resuming needs: weights, optimizer, epoch, metrics
metrics.csv          a line an epoch
log.txt              what was printed: the run, a line an epoch, the epoch that was kept; a resume goes on below
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cache.files import write_bytes
from ..cache.skeletons import Layout
from .config import Config, as_dict, from_dict
from .model import SkeletonClassifier, build_model


@dataclass(frozen=True)
class Run:
    """All that evaluation and a resume need to know; `slots` is M, the bodies the network has room for.

    `rgb` and `text` are the feature caches as they were used; of text one a prompt. `start` is what the network's
    weights were at first, None where they were drawn by the seed. `costs` say by its key what a cache cost, so that it
    is known when the cache is gone; they are no part of what makes two runs the same.
    """

    config: Config
    dataset: str
    data: str
    skeletons: str
    classes: tuple[str, ...]
    layout: Layout
    slots: int
    body_rule: str
    train_clips: int
    held_out_clips: int
    rgb: Mapping[str, Any] | None
    text: tuple[Mapping[str, Any], ...]
    missing: Mapping[str, list[str]]
    versions: Mapping[str, str]
    coordinates: str = "metres"
    held_out_subjects: tuple[int, ...] = ()
    start: Mapping[str, Any] | None = None
    costs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def selection(self) -> str:
        """How the kept epoch was chosen, in words for every output."""
        if self.config.select_on_test:
            return "best epoch CHOSEN ON THE TEST SET"
        return f"best epoch on held-out {self.config.validation}" if self.config.validation else "last epoch"

    def teachers(self, kind: str) -> tuple[Mapping[str, Any], ...]:
        """The feature caches of a kind ("rgb" or "text") that it is trained on."""
        if kind == "text":
            return self.text
        return () if self.rgb is None else (self.rgb,)

    def build(self) -> SkeletonClassifier:
        return build_model(
            self.config.backbone, self.layout, bodies=self.slots, width=self.config.width, classes=len(self.classes)
        )


def write_run(folder: Path, run: Run) -> None:
    found = {name: getattr(run, name) for name in run.__dataclass_fields__}
    found |= {"config": as_dict(run.config), "layout": asdict(run.layout)}
    text = json.dumps(found, indent=1)
    write_bytes(folder / "run.json", text.encode())


def read_run(folder: Path) -> Run:
    """The run in a folder; FileNotFoundError or ValueError where there is none."""
    path = folder / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no run here (run.json is missing); train one with `mmcl train`")
    try:
        found = json.loads(path.read_text())
        found["config"] = from_dict(found["config"], str(path))
        found["layout"] = Layout.from_dict(found["layout"])
        found["classes"] = tuple(found["classes"])
        found["held_out_subjects"] = tuple(found.get("held_out_subjects", ()))
        text = found["text"]  # older runs hold one cache, or null
        found["text"] = (text,) if isinstance(text, Mapping) else tuple(text or ())
        return Run(**found)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a run ({error})") from error


def refuse_other(folder: Path, run: Run) -> None:
    """ValueError, with what differs, where the run in `folder` is not this one."""
    found = read_run(folder)
    same = replace(found, versions=run.versions, data=run.data, start=_moved(found.start, run.start), costs=run.costs)
    if same == run:
        return
    old, new = _flat(same), _flat(run)
    lines = [f"  {name}: there {old[name]}, asked {new[name]}" for name in new if old[name] != new[name]]
    raise ValueError(f"{folder}: holds another run; give another --out\n" + "\n".join(lines))


def _moved(found: Mapping[str, Any] | None, asked: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A start as it was, from where the same weights lie now."""
    return found if found is None or asked is None else {**found, "path": asked["path"]}


def _flat(run: Run) -> dict[str, Any]:
    outer = {name: getattr(run, name) for name in ("dataset", "skeletons", "slots", "body_rule")}
    outer["missing"] = {kind: names for kind, names in run.missing.items() if names}
    caches = {kind: ", ".join(map(_cache, run.teachers(kind))) or "none" for kind in ("rgb", "text")}
    start = f"{run.start['path']} ({run.start['digest']})" if run.start else "none"
    shape = {"layout": run.layout.name, "classes": len(run.classes)}
    return {**as_dict(run.config), **outer, **caches, **shape, "start": start}


def _cache(used: Mapping[str, Any]) -> str:
    return f"{used['key']} with rows {used.get('rows', 'unknown')}"
