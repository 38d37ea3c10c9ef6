"""The smaller commands of stage one: `mmcl cache ...`, `mmcl models ...` and `mmcl show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from ..cache.index import Index
    from ..cache.recipe import Recipe

caches = typer.Typer(help="Look after feature caches.", no_args_is_help=True)
models = typer.Typer(help="What can be used, and what it needs.", no_args_is_help=True)

FAILURE = 1
LISTED = 40  # damaged rows shown of a file

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]
CacheName = Annotated[str, typer.Argument(metavar="CACHE", help="A model, a cache's key, or the beginning of a key.")]


@caches.command()
def info(data: DataDir) -> None:
    """List a data set's caches: recipes side by side, rows, failures, versions, what is not finished."""
    from ..cache.recipe import KINDS
    from ..cache.store import cache_folders
    from ..cache.terminal import new_console, say
    from .tables import show_caches

    console, clips = new_console(), _clips(data)
    folders = cache_folders(data)
    known = list(_opened(console, folders, clips))
    for kind in KINDS:
        if some := [(recipe, index, done) for recipe, index, done in known if recipe.kind == kind]:
            show_caches(console, kind, some)
    for recipe, index, done in known:
        if not done:
            say(console, f"{index.folder}: not finished, {_how_far(index, clips)}: {recipe}", "yellow")
    if not folders:
        say(console, f"{data}: no feature cache yet; make one with `mmcl extract-features`")
    if len(known) < len(folders):
        raise typer.Exit(FAILURE)


def _opened(console: Console, folders: list[Path], clips: set[str]) -> Iterator[tuple[Recipe, Index, bool]]:
    """Each cache with whether it is finished; one that cannot be read is said, and the others are shown."""
    from ..cache.index import open_index
    from ..cache.recipe import read_recipe
    from ..cache.store import is_merged
    from ..cache.terminal import say

    for folder in folders:
        try:
            index = open_index(folder)
            yield read_recipe(folder), index, is_merged(folder) and not clips - index.places.keys()
        except (OSError, ValueError) as error:
            say(console, f"{folder}: cannot be read: {error}", "red")


def _clips(data: Path) -> set[str]:
    """The names of the data set's clips; none where it has no skeleton cache."""
    from ..cache.skeletons import read_skeletons

    path = data / "skeletons.h5"
    return set(read_skeletons(path).names) if path.exists() else set()


def _how_far(index: Index, clips: set[str]) -> str:
    missing, rows = len(clips - index.places.keys()), f"{len(index.places):,} rows so far"
    if clips and not missing:
        return f"{rows}, which are all; put them together with `mmcl cache merge`"
    wanted = f", {missing:,} clips have none" if clips else ""
    return f"{rows}{wanted}; run its `mmcl extract-features` again, it resumes"


@caches.command()
def verify(data: DataDir) -> None:
    """Check every row of every cache, finished or not, against its checksum; damaged ones are named."""
    from ..cache.index import source_files
    from ..cache.store import cache_folders
    from ..cache.terminal import new_console, say

    console, damaged = new_console(), 0
    for folder in cache_folders(data):
        files = source_files(folder)
        found = [line for path in files for line in _damage(path)]
        damaged += len(found)
        for line in found:
            say(console, line, "red")
        if not found:
            say(console, f"{folder}: {'every row is as it was written' if files else 'no rows yet'}")
    if damaged:
        raise typer.Exit(FAILURE)


def _damage(path: Path) -> Iterator[str]:
    """What is wrong with a file of rows, and what to do; nothing where it is whole."""
    from ..cache.index import read_source
    from ..cache.table import damaged_rows
    from ..cache.words import few

    merged = path.name == "cache.h5"
    folder = path.parent if merged else path.parent.parent
    mend = f"move {folder} away" if merged else "delete this file"
    try:
        names = read_source(path, folder.name).names
        rows = damaged_rows(path)
    except (OSError, ValueError) as error:
        yield str(error)
        return
    if rows:
        named = few([names[row] for row in rows], LISTED)
        yield f"{path}: damaged: {named}; {mend} and run the same `mmcl extract-features` again"


@caches.command()
def compare(data: DataDir, left: CacheName, right: CacheName) -> None:
    """Two caches of features side by side: agreement of answers, probabilities, features, class by class."""
    from ..cache.compare import compare as compare_caches
    from ..cache.named import cache_named
    from ..cache.skeletons import read_skeletons
    from ..cache.store import open_cache
    from ..cache.terminal import new_console
    from .tables import show_comparison

    skeletons = read_skeletons(data / "skeletons.h5")
    first, second = (open_cache(cache_named(data, name, ("rgb", "text"))) for name in (left, right))
    show_comparison(new_console(), compare_caches(first, second, skeletons))


@caches.command()
def merge(data: DataDir) -> None:
    """Put the parts of every cache into one file; extract-features does so itself once all rows are there."""
    from ..cache.index import open_index
    from ..cache.merge import merge as merge_cache
    from ..cache.store import cache_folders, is_merged
    from ..cache.terminal import new_console, say

    console, clips = new_console(), _clips(data)
    for folder in cache_folders(data):
        if is_merged(folder):
            say(console, f"{folder}: one file already")
        elif not open_index(folder).places:
            say(console, f"{folder}: no rows yet; run its `mmcl extract-features` again")
        else:
            rows = merge_cache(folder)
            say(console, f"{folder}: merged, {len(rows.names):,} rows")
            if missing := len(clips - rows.row_of.keys()):
                say(console, f"{missing:,} clips have no row; its `mmcl extract-features` makes these alone", "yellow")


@caches.command()
def export(data: DataDir, cache: CacheName, out: Annotated[Path, typer.Option(help="The .npz file to write.")]) -> None:
    """Write a cache as one .npz, which numpy reads without pickle."""
    from ..cache.export import export as export_cache
    from ..cache.named import cache_named
    from ..cache.terminal import new_console, say

    say(new_console(), f"written: {export_cache(cache_named(data, cache), out)}")


@models.command()
def encoders() -> None:
    """A line a model family: what was tested, what it needs, what is known not to work."""
    from ..cache.terminal import new_console, say
    from .encoders.families import KNOWN_NOT_TO_WORK, LLM_FAMILIES, RGB_FAMILIES, TORCHVISION_LLM_TYPES, TRIED_LLM_TYPES
    from .tables import family_table

    console = new_console()
    console.print(family_table("multimodal LLMs (--llm), each tested on a tiny checkpoint", LLM_FAMILIES))
    console.print(family_table("RGB networks (--rgb), each tested on a tiny checkpoint", RGB_FAMILIES))
    say(console, f"tried once, not tested: {', '.join(TRIED_LLM_TYPES)}")
    say(console, f"take torchvision: {', '.join(TORCHVISION_LLM_TYPES)}")
    say(console, "known not to work:")
    for kind, reason in KNOWN_NOT_TO_WORK:
        say(console, f"  {kind}: {reason}")
    say(console, "any other type is tried, and refused where it does not fit; one's own encoder is module:Class")


def show(
    data: DataDir,
    names: Annotated[list[str] | None, typer.Argument(metavar="CLIP", help="Names; one clip a class if none.")] = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("contact-sheet.png"),
    images: Annotated[
        str | None, typer.Option(help="One cache of person images by its key; all that the texts saw if not given.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="Text features by model or key; may be repeated; all if not given.")
    ] = None,
) -> None:
    """Draw what the models saw of some clips, with their answers under it."""
    from ..cache.terminal import new_console, say
    from .pictures.show import contact_sheet

    say(new_console(), f"written: {contact_sheet(data, names or (), out, images, text or ())}")
