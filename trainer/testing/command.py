"""`mmcl evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ...cache.terminal import OnProgress
    from .evaluate import Evaluation


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders that `mmcl train` made.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Another folder of the same data set, where it has moved; with --transfer another."),
    ] = None,
    transfer: Annotated[
        bool,
        typer.Option(
            "--transfer",
            help="Test on the classes that --data shares with what was trained on: zero-shot and domain-adaptive "
            "recognition, as the paper calls it (docs/transfer.md).",
        ),
    ] = False,
) -> None:
    """Test runs on skeletons only: no feature cache is read, no big model is loaded."""
    if not transfer:
        test_runs(runs, data)
    elif data:
        _transfer(runs, data)
    else:
        raise ValueError("--transfer tests on another data set: say which with --data, such as --data data/utd-mhad")


def test_runs(runs: Sequence[Path], data: Path | None) -> list[Evaluation]:
    """Each run's evaluation, shown."""
    from ..report import class_table, result_table
    from ..run import read_run
    from .evaluate import evaluate as run_evaluate

    _ = [read_run(run) for run in runs]  # a wrong name among several is said before the first is tested
    return [_tested(lambda bar, run=run: run_evaluate(run, data, bar), (class_table, result_table)) for run in runs]


def _transfer(runs: Sequence[Path], data: Path) -> None:
    from .transfer import evaluate_transfer
    from .transfer_report import transfer_class_table, transfer_table

    for run in runs:
        _tested(lambda bar, run=run: evaluate_transfer(run, data, bar), (transfer_class_table, transfer_table))


def _tested(test: Callable[[OnProgress], Any], tables: Sequence[Callable[[Any], Table]]) -> Any:
    """The result of a test, shown: its tables, what to know beside them, and where it was written."""
    from ...cache.terminal import bars, new_console, say

    console = new_console()
    with bars(console) as bar:
        result = test(bar("test clips"))
    for table in tables:
        console.print(table(result))
    for note in result.notes:
        say(console, note)
    say(console, f"written: {result.folder}")
    return result
