"""A comparison as files: JSON, a line an entry as CSV, per-class gains, and the scores of each ensemble."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ...cache.files import write_bytes, write_csv
from .compare import Comparison
from .ensemble import Ensemble
from .entries import Entry
from .metrics import Metrics, confused_pairs
from .paired import Paired
from .scores import write_scores
from .written import counted

SUMMARY, TABLE, GAINS, REPORT = "comparison.json", "comparison.csv", "gains.csv", "report.html"
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
    try:
        ours = json.loads((folder / SUMMARY).read_text())["made_by"] == MADE_BY
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours and (there := [name for name in (SUMMARY, TABLE, GAINS, REPORT) if (folder / name).exists()]):
        raise ValueError(f"{folder}: holds {', '.join(there)} of something else than a comparison; give another --out")


def write_comparison(found: Comparison) -> None:
    """All files into its folder; comparison.json comes last: where it is, the comparison is whole."""
    found.folder.mkdir(parents=True, exist_ok=True)
    for ensemble in found.ensembles:
        _write_ensemble(found.folder / folder_of(ensemble), ensemble)
    write_csv(found.folder / TABLE, COLUMNS, ([line[name] for name in COLUMNS] for line in _lines(found)))
    _write_gains(found)
    write_bytes(found.folder / SUMMARY, json.dumps(_summary(found), indent=1).encode())


def folder_of(ensemble: Ensemble) -> str:
    """Such as `ensemble-fixed-seed1`: a folder of its own, so that its scores can be an entry again."""
    seed = "" if ensemble.seed is None else f"seed{ensemble.seed}"
    how = ensemble.chosen.split(" (")[0].split(" of the training")[0]
    return PLAIN.sub("-", "-".join(part for part in ("ensemble", how, ensemble.taught, seed) if part))


def _write_ensemble(folder: Path, ensemble: Ensemble) -> None:
    folder.mkdir(exist_ok=True)
    write_scores(folder, ensemble.scores, ensemble.about)
    write_bytes(folder / "results.json", json.dumps(_ensemble(ensemble), indent=1).encode())


def _summary(found: Comparison) -> dict[str, Any]:
    first, classes = found.entries[0], found.classes
    others = zip(found.entries[1:], found.paired, strict=True)
    groups = [group._asdict() for group in found.groups]
    return {
        "made_by": MADE_BY,
        "weights_fitted_on_test": found.fitted_on_test,
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
    return own | {"taught": entry.taught, **counted(entry.metrics), "confused": pairs, "notes": list(entry.notes)}


def _ensemble(ensemble: Ensemble) -> dict[str, Any]:
    return {
        "title": ensemble.title,
        "members": list(ensemble.members),
        "weights": list(ensemble.weights),
        "weights_chosen": ensemble.chosen,
        "kept": ensemble.selection,
        "seed": ensemble.seed,
        "members_top1": list(ensemble.single),
        **counted(ensemble.metrics),
        "against_first_member": _paired(ensemble.versus_first),
        "scores": f"{folder_of(ensemble)}/scores.npz",
    }


def _paired(paired: Paired) -> dict[str, Any]:
    return paired._asdict() | {"interval": list(paired.interval)}


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
        found |= {"mcnemar_p": paired.p_value}
    return found


def _write_gains(found: Comparison) -> None:
    """gains.csv: a line a class, the share right of each entry and ensemble, and its gain over the first entry."""
    columns = [(entry.title, entry.metrics) for entry in found.entries]
    columns += [(f"{one.title} (weights {one.chosen})", one.metrics) for one in found.ensembles]
    first, titles = columns[0], [title for title, _ in columns]
    clips = first[1].confusion.sum(1)
    lines = []
    for label in clips.nonzero()[0].tolist():
        shares = [float(metrics.confusion[label, label] / clips[label]) for _, metrics in columns]
        differences = [f"{share - shares[0]:+.4f}" for share in shares[1:]]
        lines.append((found.classes[label], int(clips[label]), *(f"{share:.4f}" for share in shares), *differences))
    heads = ("class", "clips", *titles, *(f"{title} minus {first[0]}" for title in titles[1:]))
    write_csv(found.folder / GAINS, heads, lines)
