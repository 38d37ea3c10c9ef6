"""What the commands of stage two show: the run before it starts, epochs, results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from ..cache.skeletons import TEST
from .loop.checkpoint import EpochMetrics, State
from .run import Run
from .testing.metrics import per_class

if TYPE_CHECKING:  # training says its lines without loading what evaluation draws with
    from .plan import Plan
    from .testing.evaluate import Evaluation


def run_lines(run: Run) -> list[str]:
    """What is going to be trained on what."""
    config = run.config
    held = f", {run.held_out_clips} held out" if run.held_out_clips else ""
    clips = f"{run.train_clips} training clips{held}, {len(run.classes)} classes"
    network = f"{config.backbone}, width {config.width}, {config.window} frames, {run.slots} bodies"
    schedule = f"batch {config.batch}, {config.epochs} epochs, seed {config.seed}; keeps the {run.selection}"
    lines = [f"{run.dataset} {config.split}, {config.stream}: {clips}", f"{network}; {schedule}"]
    for kind, head in (("rgb", "FAM"), ("text", "FRM")):
        cache = getattr(run, kind)
        missing = len(run.missing.get(kind, ()))
        masked = f"; {missing} clips without features train on the classification loss only" if missing else ""
        used = f"{cache['settings'].get('model')} ({cache['key']}){masked}" if cache else "none"
        lines.append(f"{head}: {used}")
    return lines


def plan_lines(planned: Plan) -> list[str]:
    """The same, and what evaluation will say of the split."""
    config, skeletons = planned.run.config, planned.skeletons
    if len(skeletons.rows(config.split, TEST)):
        return run_lines(planned.run)
    return [*run_lines(planned.run), f"split {config.split} has no test clips: `mmcl evaluate` will refuse this run"]


def epoch_line(line: EpochMetrics, run: Run) -> str:
    """One epoch: rate, losses, top-1 in training and on what chooses the epoch, where something does."""
    where = "TEST SET" if run.config.select_on_test else "held out"
    chosen = f"  {where} {line.held_out_top1:6.1%}" if line.held_out_top1 >= 0 else ""
    parts = f"{line.classify:.3f} + align {line.align:.3f} + refine {line.refine:.3f}"
    loss = f"lr {line.lr:.4f}  loss {line.loss:.3f} ({parts})"
    return f"epoch {line.epoch:3d}/{run.config.epochs}  {loss}  train {line.train_top1:6.1%}{chosen}"


def kept_line(state: State, run: Run) -> str:
    """Which epoch's weights the run keeps, and why."""
    return f"kept epoch {state.best_epoch if state.best else state.epoch} ({run.selection})"


def result_table(result: Evaluation) -> Table:
    metrics, run = result.metrics, result.run
    table = Table(
        title=f"{escape(result.dataset)} {run.config.split} {run.config.stream}, skeletons only", title_justify="left"
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_row("top-1", f"{metrics.top1:.2%}")
    table.add_row("top-5", f"{metrics.top5:.2%}")
    table.add_row("mean class accuracy", f"{metrics.mean_class:.2%}")
    table.add_row("largest class alone", f"{metrics.chance:.2%}")
    table.add_row("test clips", f"{metrics.clips:,}")
    table.add_row("parameters", f"{result.parameters:,}")
    return table


def class_table(result: Evaluation) -> Table:
    """Worst class first."""
    table = Table(title="by class, worst first", title_justify="left")
    for column in ("class", "clips", "top-1", "most often called"):
        table.add_column(column, justify="right" if column in ("clips", "top-1") else "left")
    for line in sorted(per_class(result.metrics, result.run.classes), key=lambda line: line.accuracy):
        mistaken = f"{line.mistaken_for} ({line.mistakes})" if line.mistakes else ""
        table.add_row(escape(line.name), str(line.clips), f"{line.accuracy:.1%}", escape(mistaken))
    return table
