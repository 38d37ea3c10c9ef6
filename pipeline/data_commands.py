"""`mmcl prepare`, `mmcl data check` and `mmcl data show`: a data set made, looked through, and a clip drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ..cache.terminal import OnProgress
    from .checks.check import Checked

data = typer.Typer(help="Look at a data set.", no_args_is_help=True)

FAILURE = 1
PATIENCE = 2.0  # seconds, before a bar is shown
EXAMPLES = 3  # clips named of a finding; all of them are in a file

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]


def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="ntu60, ntu120, nw-ucla, utd-mhad, sysu; pyskl or ctrgcn for the files of those projects; "
            "folder for one's own data."
        ),
    ],
    raw: Annotated[Path, typer.Argument(help="The folder with the raw skeleton files, or the zip or file of them.")],
    out: Annotated[Path | None, typer.Option(help="Where the skeleton cache goes; data/DATASET if not given.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read; one a core if not given.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="folder: the joints' layout, such as kinect-v2, coco-17; by their number else.")
    ] = None,
    split_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="folder: a split in which every second value tests.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(metavar="SHARE", help="folder: a random split, this share of each class tests.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="folder: of the random split; 0 if not given.")] = None,
) -> None:
    """Raw skeletons to a skeleton cache, with a report of what was odd. Run again, it resumes."""
    from ..cache.terminal import bars, new_console
    from .datasets import open_dataset, place_of
    from .preparation.prepare import prepare as run_prepare
    from .report import show_prepared
    from .stop import clean_stop

    console, (name, out) = new_console(), place_of(dataset, raw, out)
    opened = open_dataset(dataset, raw, layout=layout, split_by=split_by, test=test, seed=seed)
    with clean_stop() as stop, bars(console) as bar:
        prepared = run_prepare(name, opened, out, bar(f"reading {name}"), jobs=jobs, stop=stop)
    show_prepared(console, prepared, out)
    if prepared.unread:
        raise typer.Exit(FAILURE)


@data.command("check")
def check_data(
    folder: DataDir, strict: Annotated[bool, typer.Option("--strict", help="Warnings are failures too.")] = False
) -> None:
    """Look for what is wrong with labels, splits, clips, joints, caches. Exit code 1 where there are errors."""
    from ..cache.terminal import bars, new_console, say
    from .checks.check import check, write_findings

    console, listed = new_console(), folder / "check.csv"
    with bars(console) as bar:
        checked = check(folder, late(bar))
    try:
        write_findings(listed, checked)
        where = f"; every clip is in {listed}" if checked.findings else ""
    except OSError as error:
        where = f"; not listed by clip: {error}"
    if checked.findings:
        console.print(finding_table(checked))
    counts = checked.counts
    worst = "red" if counts["error"] else "yellow" if counts["warning"] else "green"
    said = (
        ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if count) or "nothing found"
    )
    say(console, f"{checked.skeletons.dataset}, {len(checked.skeletons.names):,} clips: {said}{where}", worst)
    if counts["error"] or (strict and counts["warning"]):
        raise typer.Exit(FAILURE)


@data.command("show")
def show_data(
    folder: DataDir,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A clip's name.")],
    out: Annotated[
        Path | None,
        typer.Option(help="A .gif, moving, or a .png, a strip beside its person image; NAME.gif if not given."),
    ] = None,
) -> None:
    """Draw a clip's skeleton, moving or as a strip of poses."""
    from ..cache.terminal import new_console, say
    from .pictures.moving import show_clip

    console, out = new_console(), out or Path(f"{Path(name).name}.gif")
    for note in show_clip(folder, name, out):
        say(console, note)
    say(console, f"written: {out}")


def late(bar: Callable[[str], OnProgress], title: str = "clips") -> OnProgress:
    """Progress that is shown only where there is time to look at it."""
    started = time.monotonic()
    shown: list[OnProgress] = []

    def progress(done: int, total: int) -> None:
        if not shown and time.monotonic() - started > PATIENCE:
            shown.append(bar(title))
        for show in shown:
            show(done, total)

    return progress


def finding_table(checked: Checked) -> Table:
    """A line a finding: how bad, what, in which clips, what it means and how to mend it."""
    from rich.table import Table

    from ..cache.words import cell

    styles = {"error": "red", "warning": "yellow", "note": "cyan"}
    table = Table(show_lines=True)
    for column in ("", "found", "means", "to mend it"):
        table.add_column(column, overflow="fold")
    for finding in checked.findings:
        examples = finding.examples or finding.clips
        shown, more = ", ".join(examples[:EXAMPLES]), len(examples) - EXAMPLES
        named = f"\n{shown}{f' and {more:,} more' if more > 0 else ''}" if shown else ""
        words = (cell(finding.what + named), cell(finding.means), cell(finding.mend))
        table.add_row(f"[{styles[finding.level]}]{finding.level}[/]", *words)
    return table
