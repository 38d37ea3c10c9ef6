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

EntryPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="ENTRY",
        help="Runs, folders of runs (all that have finished), and score files (.npz, .pkl); several are compared.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Another folder of the same data set, where it has moved; with --transfer another."),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Where a comparison goes; by itself `evaluation` in the folder that holds all entries."),
]
EnsembleOf = Annotated[
    str | None,
    typer.Option(
        "--ensemble",
        help="Add the entries' scores, weighted: fixed (.6 joint and bone, .4 their motions), equal, validation "
        "(fitted on held-out subjects), or a number an entry, such as 0.6,0.6,0.4,0.4.",
    ),
]
FitOnTest = Annotated[
    bool,
    typer.Option(
        "--fit-weights-on-the-test-set",
        help="An ensemble whose weights are fitted on the very clips it is tested on. No result: every output says so.",
    ),
]
SpeedOf = Annotated[
    bool, typer.Option("--speed", help="Parameters, multiply-adds, latency and throughput of each run.")
]
WithText = Annotated[
    bool,
    typer.Option(
        "--with-text",
        help="Refine one run's scores with the LLM's text features at test time, as the paper's tables do: NOT "
        "skeleton-only, and so labelled.",
    ),
]
Transfer = Annotated[
    bool,
    typer.Option(
        "--transfer",
        help="Test on the classes that --data shares with what was trained on: zero-shot and domain-adaptive "
        "recognition, as the paper calls it (docs/transfer.md).",
    ),
]


def evaluate(
    entries: EntryPaths,
    data: Data = None,
    out: Out = None,
    ensemble: EnsembleOf = None,
    fit_weights_on_the_test_set: FitOnTest = False,
    speed: SpeedOf = False,
    with_text: WithText = False,
    transfer: Transfer = False,
) -> None:
    """Test runs on skeletons only, and compare them: no feature cache is read, no big model is loaded."""
    if ensemble and fit_weights_on_the_test_set:
        raise ValueError("--ensemble and --fit-weights-on-the-test-set: each chooses the weights; say one")
    if transfer:
        several = ensemble or fit_weights_on_the_test_set or out or speed
        _transfer(entries, data, with_text=with_text, other=bool(several))
        return
    from .ensemble import ON_TEST
    from .session import Wish, evaluate_all

    asked = ON_TEST if fit_weights_on_the_test_set else ensemble
    evaluate_all(entries, Wish(data, out, asked, speed=speed, with_text=with_text))


def test_runs(runs: Sequence[Path], data: Path | None) -> list[Evaluation]:
    """Each run's evaluation, shown."""
    from .session import Wish, evaluate_all

    return evaluate_all(runs, Wish(data))


def _transfer(entries: Sequence[Path], data: Path | None, *, with_text: bool, other: bool) -> None:
    from functools import partial

    from .transfer import evaluate_transfer
    from .transfer_report import transfer_class_table, transfer_table

    if other:
        raise ValueError("--transfer tests each run by itself: leave --ensemble, --out and --speed out")
    if not data:
        raise ValueError("--transfer tests on another data set: say which with --data, such as --data data/utd-mhad")
    test = partial(evaluate_transfer, with_text=True) if with_text else evaluate_transfer
    for run in entries:
        _tested(lambda bar, run=run: test(run, data, bar), (transfer_class_table, transfer_table))


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
