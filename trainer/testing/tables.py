"""What `mmcl evaluate` shows: a run's result, its classes and confusions; several side by side; ensembles."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ...cache.words import cell
from ..matrix.tables import percent
from .compare import Comparison, Group
from .ensemble import Ensemble
from .evaluate import SKELETONS_ONLY, Evaluation
from .metrics import TOP, Interval, Metrics, confused_pairs, per_class
from .paired import Paired, p_text, paired_line

SHOWN_PAIRS, SHOWN_GAINS, SHOWN_ENTRIES = 5, 5, 6
NOTHING = "says nothing"  # top-5 of five classes or fewer
NOT_IN_THEM = "[ ]: 95%, bootstrap over these clips; other subjects or training seeds are not in it"


def share(value: float, interval: Interval) -> str:
    """Such as `91.01% [88.4, 93.5]`, as text of a table; the number alone where the resamples don't differ."""
    low, high = (100 * bound for bound in interval)
    return f"{value:.2%}" if low == high else f"{value:.2%} " + cell(f"[{low:.1f}, {high:.1f}]")


def result_table(result: Evaluation) -> Table:
    """The headline numbers of one run, with their intervals."""
    metrics, run = result.metrics, result.run
    on = cell(f"{result.dataset} {run.config.split}")
    table = _table(f"{on} {run.config.stream}, {result.inputs}; {run.selection}", caption=NOT_IN_THEM)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_row("top-1", share(metrics.top1, metrics.top1_interval))
    table.add_row("top-5", _top5(metrics))
    table.add_row("mean class accuracy", share(metrics.mean_class, metrics.mean_class_interval))
    table.add_row("largest class alone", f"{metrics.chance:.2%}")
    table.add_row("test clips", f"{metrics.clips:,}")
    counted = "parameters" if result.inputs == SKELETONS_ONLY else "parameters without the LLM's"
    table.add_row(counted, f"{result.parameters:,}")
    return table


def result_line(result: Evaluation, title: str) -> str:
    """A run's top-1 in one plain line."""
    low, high = (100 * bound for bound in result.metrics.top1_interval)
    return f"{title}: top-1 {result.metrics.top1:.2%} [{low:.1f}, {high:.1f}], {result.kept}"


def _top5(metrics: Metrics) -> str:
    return share(metrics.top5, metrics.top5_interval) if len(metrics.confusion) > TOP else NOTHING


def class_table(result: Evaluation) -> Table:
    """Worst class first."""
    table = _table("by class, worst first")
    for column in ("class", "clips", "top-1", "most often called"):
        table.add_column(column, justify="right" if column in ("clips", "top-1") else "left")
    for line in sorted(per_class(result.metrics, result.run.classes), key=lambda line: line.accuracy):
        mistaken = f"{line.mistaken_for} ({line.mistakes})" if line.mistakes else ""
        table.add_row(cell(line.name), str(line.clips), f"{line.accuracy:.1%}", cell(mistaken))
    return table


def pairs_table(metrics: Metrics, classes: Sequence[str], of: str = "") -> Table:
    """The classes most often taken for another."""
    table = _table(cell(f"most often confused{f', {of}' if of else ''}"))
    for column in ("class", "called"):
        table.add_column(column)
    for column in ("clips", "of the class"):
        table.add_column(column, justify="right")
    for pair in confused_pairs(metrics, classes, SHOWN_PAIRS):
        table.add_row(cell(pair.true), cell(pair.called), str(pair.clips), f"{pair.share:.1%}")
    return table


def comparison_table(found: Comparison) -> Table:
    """A line an entry: its numbers, and its difference to the first on the same clips."""
    kept = dict.fromkeys(entry.selection for entry in found.entries)
    common = f"; {next(iter(kept))}" if len(kept) == 1 else ""
    table = _table(cell(f"{found.on}: {found.clips:,} test clips{common}"))
    table.add_column("")
    for name in ("top-1", "top-5", "mean class accuracy"):
        table.add_column(name, justify="right")
    if found.paired:
        table.add_column("top-1 minus the first", justify="right")
        table.add_column("McNemar", justify="right")
    if len(kept) > 1:
        table.add_column("kept")
    for entry, paired in zip(found.entries, (None, *found.paired), strict=True):
        versus = _versus(paired) if found.paired else ()
        epochs = (cell(entry.selection),) if len(kept) > 1 else ()
        table.add_row(cell(entry.title), *_numbers(entry.metrics), *versus, *epochs)
    return table


def group_table(groups: Sequence[Group], classes: int) -> Table:
    """Mean and sample deviation over the runs that differ in their seed alone."""
    table = _table("over seeds: mean ± sample deviation")
    table.add_column("")
    for name in ("seeds", "top-1", "top-5", "mean class accuracy"):
        table.add_column(name, justify="right")
    for group in groups:
        top5 = percent(group.top5) if classes > TOP else NOTHING
        table.add_row(cell(group.name), str(group.top1.n), percent(group.top1), top5, percent(group.mean_class))
    return table


def ensemble_table(ensembles: Sequence[Ensemble]) -> Table:
    """A line an ensemble, below its members' own top-1 and weights."""
    table = _table(cell(f"ensembles, weights {ensembles[0].chosen}"))
    table.add_column("")
    for name in ("weight", "top-1", "top-5", "mean class accuracy", "top-1 minus its first", "McNemar"):
        table.add_column(name, justify="right")
    for ensemble in ensembles:
        for member, weight, top1 in zip(ensemble.members, ensemble.weights, ensemble.single, strict=True):
            table.add_row(f"  {cell(member)}", f"{weight:.3g}", f"{top1:.2%}")
        numbers = (*_numbers(ensemble.metrics), *_versus(ensemble.versus_first))
        table.add_row(cell(ensemble.title), "", *numbers, style="bold", end_section=True)
    return table


def paired_lines(found: Comparison) -> list[str]:
    """Each difference in words: the ensembles to their first members, then the entries to the first one."""
    lines = [f"{one.title} minus {one.members[0]}: {paired_line(one.versus_first)}" for one in found.ensembles]
    others, first = zip(found.entries[1:], found.paired, strict=True), found.entries[0].title
    return [*lines, *(f"{entry.title} minus {first}: {paired_line(paired)}" for entry, paired in others)]


def gains_table(found: Comparison) -> Table:
    """The classes that most gain and lose against the first entry, of the entry where that is most; side by side."""
    shown = found.gains[:SHOWN_ENTRIES]
    most = [max((abs(line.gain) for line in lines), default=0.0) for lines in zip(*shown, strict=True)]
    order = sorted(range(len(most)), key=lambda place: -most[place])
    chosen = [place for place in order if most[place] > 0][: 2 * SHOWN_GAINS]
    chosen.sort(key=lambda place: -sum(lines[place].gain for lines in shown))
    of = f" of the first {SHOWN_ENTRIES} others" if len(found.gains) > SHOWN_ENTRIES else ""
    table = _table(f"by class: largest gains and losses{of}, in points; all are in gains.csv")
    table.add_column("class")
    for name in ("clips", *(cell(entry.title) for entry in found.entries[: len(shown) + 1])):
        table.add_column(name, justify="right")
    for place in chosen:
        first = shown[0][place]
        after = [f"{line.after:.1%} {_signed(line.gain)}" for line in (lines[place] for lines in shown)]
        table.add_row(cell(first.name), str(first.clips), f"{first.before:.1%}", *after)
    return table


def _signed(gain: float) -> str:
    text = f"({100 * gain:+.1f})"
    return f"[green]{text}[/]" if gain > 0 else f"[red]{text}[/]" if gain < 0 else text


def _numbers(metrics: Metrics) -> tuple[str, str, str]:
    return (
        share(metrics.top1, metrics.top1_interval),
        _top5(metrics),
        share(metrics.mean_class, metrics.mean_class_interval),
    )


def _versus(paired: Paired | None) -> tuple[str, str]:
    if paired is None:
        return "", ""
    low, high = (100 * bound for bound in paired.interval)
    return f"{100 * paired.difference:+.1f} " + cell(f"[{low:+.1f}, {high:+.1f}]"), p_text(paired)


def _table(title: str, caption: str | None = None) -> Table:
    return Table(title=title, title_justify="left", caption=caption and cell(caption), caption_justify="left")
