"""What `mmcl evaluate --transfer` shows."""

from __future__ import annotations

from rich.table import Table

from ...cache.words import cell
from .metrics import HOW, TOP, Interval
from .transfer import TransferResult


def transfer_table(result: TransferResult) -> Table:
    """Top-1 and top-5 with their intervals, in both ways of counting; each row says of how many clips."""
    run = result.run
    trained = f"trained on {run.dataset} {run.config.split} {run.config.stream}"
    table = Table(title=cell(f"{result.dataset}: transfer, {trained}, {result.inputs}"), title_justify="left")
    table.add_column("metric")
    table.add_column("n", justify="right")
    table.add_column(f"all {len(run.classes)} classes compete, as in the paper", justify="right")
    table.add_column(f"only the {result.competing} mapped ones compete", justify="right")
    table.caption, table.caption_justify = HOW, "left"
    clips, both = f"{result.metrics.clips:,}", (result.metrics, result.mapped)
    table.add_row("top-1", clips, *(_sure(found.top1, found.top1_interval) for found in both))
    top5, top5_mapped = (_sure(found.top5, found.top5_interval) for found in both)
    table.add_row("top-5", clips, top5, "says nothing" if result.competing <= TOP else top5_mapped)
    table.add_row("mean class accuracy", clips, *(_sure(found.mean_class, found.mean_class_interval) for found in both))
    return table


def _sure(share: float, interval: Interval) -> str:
    reach = "" if interval.low == interval.high else f" ({interval.low:.1%} to {interval.high:.1%})"
    return f"{share:.2%}{reach}"


def transfer_class_table(result: TransferResult) -> Table:
    """A line a class, worst first."""
    table = Table(title="by class, worst first", title_justify="left")
    for head in ("class", "trained as"):
        table.add_column(head)
    for head in ("n", "top-1, all", "top-1, mapped"):
        table.add_column(head, justify="right")
    table.add_column("most often called")
    for line in sorted(result.classes, key=lambda line: line.top1):
        mistaken = f"{line.mistaken_for} ({line.mistakes})" if line.mistakes else ""
        shares = str(line.clips), f"{line.top1:.1%}", f"{line.top1_mapped:.1%}"
        table.add_row(cell(line.name), cell(line.trained_as), *shares, cell(mistaken))
    return table
