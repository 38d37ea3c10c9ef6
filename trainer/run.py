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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..cache.files import write_bytes
from ..cache.skeletons import BODY_RULES, COORDINATES, Layout
from .config import Config, as_dict, from_dict
from .model import SkeletonClassifier, build_model

KINDS = {Mapping: "a mapping", str: "text", int: "an integer", bool: "true or false", list: "a list"}
CHOSEN_ON_TEST = "CHOSEN ON THE TEST SET"


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
            return f"best epoch {CHOSEN_ON_TEST}"
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
        if (folder / "matrix.json").exists():
            raise FileNotFoundError(f"{folder}: a folder of several runs; name one of them")
        raise FileNotFoundError(f"{folder}: no run here (run.json is missing); train one with `mmcl train`")
    try:
        found = json.loads(path.read_text())
        _check(found)
        found["config"] = from_dict(found["config"], str(path))
        found["layout"] = Layout.from_dict(found["layout"])
        found["classes"] = tuple(found["classes"])
        found["held_out_subjects"] = tuple(found.get("held_out_subjects", ()))
        found["text"] = tuple(_texts(found["text"]))
        return Run(**found)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: not a run ({str(error).removeprefix(f'{path}: ')})") from error


def _texts(found: Any) -> Sequence[Any]:
    """Text caches as run.json holds them: older runs have one, or null."""
    return [found] if isinstance(found, Mapping) else found or []


def _check(found: Mapping[str, Any]) -> None:
    """ValueError, TypeError or KeyError, with what was found, where an entry is not what a run has.

    What caches cost is left to who shows it: damaged, it is no worse than not known.
    """
    from .loop.start import Start

    _of("run.json", found, Mapping)
    for name in ("config", "layout", "missing", "versions"):
        _of(name, found[name], Mapping)
    for name in ("dataset", "data", "skeletons"):
        _of(name, found[name], str)
    for name in ("slots", "train_clips"):
        _count(name, found[name], 1)
    _count("held_out_clips", found["held_out_clips"], 0)
    _one_of("body_rule", found["body_rule"], BODY_RULES)
    _one_of("coordinates", found.get("coordinates", "metres"), COORDINATES)
    _check_classes(found["classes"])
    for number, subject in enumerate(_of("held_out_subjects", found.get("held_out_subjects", []), list)):
        _of(f"held_out_subjects[{number}]", subject, int)
    for kind, names in found["missing"].items():
        _words(f"missing {kind}", names)
    _words("versions", list(found["versions"].values()))
    for cache in (*([] if found["rgb"] is None else [found["rgb"]]), *_of("text", _texts(found["text"]), list)):
        _check_cache(cache)
    if (start := found.get("start")) is not None:
        known = Start(**_of("start", start, Mapping))
        for name, kind in (("path", str), ("digest", str), ("backbone_only", bool), ("loaded", int), ("entries", int)):
            _of(f"start {name}", getattr(known, name), kind)
        _words("start left_out", list(known.left_out))


def _check_classes(found: Any) -> None:
    if not _words("classes", found) or not all(found) or len(set(found)) < len(found):
        raise ValueError("classes: wanted one or more names, none empty, none twice")


def _check_cache(found: Any) -> None:
    """Of a feature cache what all runs have had; those of today have more."""
    cache = _of("cache", found, Mapping)
    for name in ("key", "dataset"):
        _of(f"cache {name}", cache[name], str)
    _of("cache settings", cache["settings"], Mapping)
    _words("cache columns", cache.get("columns", []))


def _of(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; wanted {KINDS[kind]}")


def _count(name: str, value: Any, least: int) -> None:
    if _of(name, value, int) < least:
        raise ValueError(f"{name} = {value}; wanted {least} or more")


def _one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}; allowed are {', '.join(allowed)}")


def _words(name: str, found: Any) -> Any:
    for number, word in enumerate(_of(name, found, list)):
        _of(f"{name}[{number}]", word, str)
    return found


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
