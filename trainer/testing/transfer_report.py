"""What `mmcl evaluate --transfer` shows."""

from __future__ import annotations

from rich.table import Table

from ...cache.words import cell
from .transfer import TOP, TransferResult


def transfer_table(result: TransferResult) -> Table:
    """Top-1 and top-5 in both ways of counting; each row says of how many clips."""
    run = result.run
    trained = f"trained on {run.dataset} {run.config.split} {run.config.stream}"
    table = Table(title=cell(f"{result.dataset}: transfer, {trained}, skeletons only"), title_justify="left")
    table.add_column("metric")
    table.add_column("n", justify="right")
    table.add_column(f"all {len(run.classes)} classes compete, as in the paper", justify="right")
    table.add_column(f"only the {result.competing} mapped ones compete", justify="right")
    clips, few = f"{result.metrics.clips:,}", result.competing <= TOP
    table.add_row("top-1", clips, f"{result.metrics.top1:.2%}", f"{result.mapped.top1:.2%}")
    table.add_row("top-5", clips, f"{result.metrics.top5:.2%}", "says nothing" if few else f"{result.mapped.top5:.2%}")
    table.add_row("mean class accuracy", clips, f"{result.metrics.mean_class:.2%}", f"{result.mapped.mean_class:.2%}")
    return table


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
