"""A comparison as files: JSON, a line an entry as CSV, per-class gains, and the scores of each ensemble."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

from ...cache.files import write_bytes, write_csv
from .compare import Comparison
from .ensemble import Ensemble
from .entries import Entry
from .metrics import Metrics, confused_pairs
from .paired import Paired
from .scores import FILE, write_scores
from .written import counted

SUMMARY, TABLE, GAINS, REPORT = "comparison.json", "comparison.csv", "gains.csv", "report.html"
RESULTS = "results.json"  # of an ensemble
MADE_BY = "mmcl evaluate"
PLAIN = re.compile(r"[^\w.+-]+")
COLUMNS = (
    *("title", "kind", "dataset", "split", "backbone", "stream", "taught", "seed", "clips"),
    *("top1", "top1_low", "top1_high", "top5", "top5_low", "top5_high"),
    *("mean_class_accuracy", "mean_class_low", "mean_class_high"),
    *("difference", "difference_low", "difference_high", "only_first_right", "only_this_right", "mcnemar_p"),
    *("weights", "kept"),
)


def refuse_foreign(folder: Path) -> None:
    """ValueError where a file that would be written is there already and is not of an earlier comparison."""
    if not _ours(folder) and (there := [name for name in (SUMMARY, TABLE, GAINS, REPORT) if (folder / name).exists()]):
        raise ValueError(f"{folder}: holds {', '.join(there)} of something else than a comparison; give another --out")


def refuse_place(folder: Path) -> None:
    """ValueError where no folder of a comparison can be: a file is there, or a run's own folder holds it."""
    whole = folder.resolve()
    for place in (whole, *whole.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{folder}: {place} is a file; give another --out")
        if (place / "run.json").exists():
            raise ValueError(f"{folder}: in the folder of a run, whose files it would mix with; give another --out")


def write_comparison(found: Comparison, draw: Callable[[Comparison], Path]) -> Path:
    """All files into its folder, in the place of an earlier comparison's; the path of its report, which `draw` writes.

    comparison.json goes first and comes last: where it is, the comparison is whole.
    """
    found.folder.mkdir(parents=True, exist_ok=True)
    _clear(found.folder, {entry.path.resolve().parent for entry in found.entries})
    for ensemble in found.ensembles:
        _write_ensemble(found.folder / folder_of(ensemble), ensemble)
    write_csv(found.folder / TABLE, COLUMNS, ([line[name] for name in COLUMNS] for line in _lines(found)))
    _write_gains(found)
    report = draw(found)
    write_bytes(found.folder / SUMMARY, json.dumps(_summary(found), indent=1).encode())
    return report


def _ours(folder: Path) -> bool:
    """Whether a comparison is there; one that was cut off is known by the head of its table."""
    try:
        with (folder / TABLE).open(newline="") as table:
            head = table.readline().rstrip()
    except (OSError, ValueError):
        head = ""
    return bool(_old(folder)) or head == ",".join(COLUMNS)


def _old(folder: Path) -> dict[str, Any]:
    """The summary of an earlier comparison; empty where there is none."""
    try:
        found = json.loads((folder / SUMMARY).read_text())
        return found if found["made_by"] == MADE_BY else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _clear(folder: Path, kept: Collection[Path]) -> None:
    """The summary of an earlier comparison is removed, then the ensembles that it names, as far as we wrote them.

    The folders in `kept` stay: what is compared now lies in them.
    """
    places = [place for place in _ensembles(folder) if place.resolve() not in kept]
    (folder / SUMMARY).unlink(missing_ok=True)
    for place in places:
        for name in (FILE, RESULTS):
            (place / name).unlink(missing_ok=True)
        if not any(place.iterdir()):
            place.rmdir()


def _ensembles(folder: Path) -> list[Path]:
    """The folders of the ensembles that an earlier comparison's summary names."""
    try:
        names = {PurePosixPath(one["scores"]).parts[0] for one in _old(folder)["ensembles"]}
    except (LookupError, TypeError):
        return []
    places = [folder / name for name in sorted(names) if name.startswith("ensemble-")]
    return [place for place in places if place.is_dir() and not place.is_symlink()]


def folder_of(ensemble: Ensemble) -> str:
    """Such as `ensemble-fixed-seed1`: a folder of its own, so that its scores can be an entry again."""
    seed = "" if ensemble.seed is None else f"seed{ensemble.seed}"
    how = ensemble.chosen.split(" (")[0].split(" subjects ")[0]
    return PLAIN.sub("-", "-".join(part for part in ("ensemble", how, ensemble.taught, seed) if part))


def _write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    folder.mkdir(exist_ok=True)
    write_scores(folder, ensemble.scores, ensemble.about)
    write_bytes(folder / RESULTS, json.dumps(_ensemble(ensemble), indent=1).encode())


def _summary(found: Comparison) -> dict[str, Any]:
    first, classes = found.entries[0], found.classes
    others = zip(found.entries[1:], found.paired, strict=True)
    groups = [group._asdict() for group in found.groups]
    return {
        "made_by": MADE_BY,
        "weights_fitted_on_test": found.fitted_on_test,
        "chosen_on_test": found.on_test,
        "clips": found.clips,
        "classes": list(classes),
        "entries": [_entry(entry, classes) for entry in found.entries],
        "first": first.title,
        "against_first": [{"title": entry.title, **_paired(paired)} for entry, paired in others],
        "seeds": [
            {name: part._asdict() if hasattr(part, "_asdict") else part for name, part in group.items()}
            for group in groups
        ],
        "ensembles": [_ensemble(ensemble) for ensemble in found.ensembles],
        "notes": list(found.notes),
    }


def _entry(entry: Entry, classes: tuple[str, ...]) -> dict[str, Any]:
    pairs = [pair._asdict() for pair in confused_pairs(entry.metrics, classes)]
    own = {"title": entry.title, "path": str(entry.path), **entry.about._asdict(), "selection": entry.selection}
    own |= {"chosen_on_test": entry.on_test}
    return own | {"taught": entry.taught, **counted(entry.metrics), "confused": pairs, "notes": list(entry.notes)}


def _ensemble(ensemble: Ensemble) -> dict[str, Any]:
    return {
        "title": ensemble.title,
        "members": list(ensemble.members),
        "weights": list(ensemble.weights),
        "weights_chosen": ensemble.chosen,
        "kept": ensemble.selection,
        "chosen_on_test": ensemble.on_test,
        "seed": ensemble.seed,
        "members_top1": list(ensemble.single),
        **counted(ensemble.metrics),
        "against_first_member": _paired(ensemble.versus_first),
        "scores": f"{folder_of(ensemble)}/{FILE}",
    }


def _paired(paired: Paired) -> dict[str, Any]:
    p_value = None if paired.chosen else paired.p_value
    return paired._asdict() | {"interval": list(paired.interval), "p_value": p_value}


def _lines(found: Comparison) -> list[dict[str, Any]]:
    lines = []
    for entry, paired in zip(found.entries, (None, *found.paired), strict=True):
        own = {"title": entry.title, "kind": "run" if entry.run else "score file", **entry.about._asdict()}
        own |= {"taught": entry.taught, "kept": entry.selection}
        lines.append(_line(own, entry.metrics, paired))
    for one in found.ensembles:
        own = {"title": one.title, "kind": "ensemble", **one.about._asdict(), "taught": one.taught}
        own |= {"kept": one.selection, "weights": " ".join(f"{weight:.4g}" for weight in one.weights)}
        lines.append(_line(own, one.metrics, None))
    return lines


def _line(own: dict[str, Any], metrics: Metrics, paired: Paired | None) -> dict[str, Any]:
    shares = {"top1": metrics.top1, "top5": metrics.top5, "mean_class_accuracy": metrics.mean_class}
    bounds = {
        f"{name}_{end}": getattr(interval, end)
        for name in ("top1", "top5", "mean_class")
        for interval in [getattr(metrics, f"{name}_interval")]
        for end in ("low", "high")
    }
    found = dict.fromkeys(COLUMNS, "") | {k: "" if v is None else v for k, v in own.items()} | shares | bounds
    found["clips"] = metrics.clips
    if paired:
        low, high = paired.interval
        found |= {"difference": paired.difference, "difference_low": low, "difference_high": high}
        found |= {"only_first_right": paired.only_first, "only_this_right": paired.only_second}
        found |= {"mcnemar_p": "" if paired.chosen else paired.p_value}
    return found


def _write_gains(found: Comparison) -> None:
    """gains.csv: a line a class, the share right of each entry and ensemble, and its gain over the first entry."""
    columns = [(f"{one.title} ({one.selection})" if one.on_test else one.title, one.metrics) for one in found.entries]
    columns += [(f"{one.title} ({one.selection})", one.metrics) for one in found.ensembles]
    first, titles = columns[0], [title for title, _ in columns]
    clips = first[1].confusion.sum(1)
    lines = []
    for label in clips.nonzero()[0].tolist():
        shares = [float(metrics.confusion[label, label] / clips[label]) for _, metrics in columns]
        differences = [f"{share - shares[0]:+.4f}" for share in shares[1:]]
        lines.append((found.classes[label], int(clips[label]), *(f"{share:.4f}" for share in shares), *differences))
    heads = ("class", "clips", *titles, *(f"{title} minus {first[0]}" for title in titles[1:]))
    write_csv(found.folder / GAINS, heads, lines)
