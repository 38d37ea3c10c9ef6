"""The smaller commands of stage one: `mmcl cache ...`, `mmcl models ...` and `mmcl show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

caches = typer.Typer(help="Look after feature caches.", no_args_is_help=True)
models = typer.Typer(help="What can be used, and what it needs.", no_args_is_help=True)

FAILURE = 1
LISTED = 40

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]


@caches.command()
def info(data: DataDir) -> None:
    """List a data set's feature caches."""
    from ..cache.index import open_index
    from ..cache.store import cache_folders, is_merged
    from .report import new_console, say

    console = new_console()
    for folder in cache_folders(data):
        say(console, f"{folder}: {len(open_index(folder).places):,} rows, {'merged' if is_merged(folder) else 'parts'}")


@caches.command()
def verify(data: DataDir) -> None:
    """Check every row of every finished cache against its checksum."""
    from ..cache.store import cache_folders, is_merged
    from ..cache.store import verify as verify_cache
    from .report import new_console, say

    console, damaged = new_console(), 0
    for folder in cache_folders(data):
        names = verify_cache(folder) if is_merged(folder) else []
        damaged += len(names)
        good = "every row is as it was written" if is_merged(folder) else "not finished, not checked"
        say(console, f"{folder}: {'damaged: ' + ', '.join(names[:LISTED]) if names else good}")
    if damaged:
        raise typer.Exit(FAILURE)


def show(data: DataDir) -> None:
    """Draw what a model saw."""
