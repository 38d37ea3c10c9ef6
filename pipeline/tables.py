"""What `mmcl cache info` and `mmcl cache compare` print: caches side by side."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from ..cache.compare import Comparison
from ..cache.index import Index
from ..cache.recipe import Recipe
from ..cache.terminal import say
from ..cache.words import cell
from .encoders.families import Family

ACROSS = 5  # caches beside each other in one table


def side_by_side(settings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """What all settings share, and in what they differ: a value for each of them, "-" where it has none."""
    flat = [dict(_flat(one)) for one in settings]
    values = {name: tuple(one.get(name, "-") for one in flat) for name in sorted({n for one in flat for n in one})}
    shared = {name: each[0] for name, each in values.items() if len(set(each)) == 1}
    return shared, {name: each for name, each in values.items() if name not in shared}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield (
                f"{prefix}{name}",
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False),
            )


def show_caches(console: Console, kind: str, caches: Sequence[tuple[Recipe, Index, bool]]) -> None:
    """The caches of one kind, finished or not: what they share once, then a column each with what they do not."""
    say(console, f"\n{kind}: {len(caches)} cache{'s' * (len(caches) > 1)}", "bold")
    shared, differing = side_by_side([recipe.settings for recipe, _, _ in caches])
    versions, others = side_by_side([_made(index) for _, index, _ in caches])
    for title, same in (("settings", shared), ("made with", versions)):
        if same:
            every = "" if len(caches) == 1 else ", all of them"
            say(console, f"{title}{every}: {', '.join(f'{name} {short(value)}' for name, value in same.items())}")
    for start in range(0, len(caches), ACROSS):
        some = slice(start, start + ACROSS)
        _cache_columns(console, caches[some], {name: values[some] for name, values in (differing | others).items()})


def _cache_columns(
    console: Console, caches: Sequence[tuple[Recipe, Index, bool]], settings: Mapping[str, Sequence[str]]
) -> None:
    table = _table("", ["", *(recipe.key for recipe, _, _ in caches)])
    for name, values in settings.items():
        _row(table, name, map(short, values))
    indexes = [index for _, index, _ in caches]
    _row(table, "rows", (f"{len(index.places):,}" for index in indexes))
    _row(table, "failed", (failed(index.failures.values()) for index in indexes))
    _row(table, "batch", (_batch(index) for index in indexes))
    _row(table, "encoder's parameters", (_count(index.parameters) for index in indexes))
    _row(table, "device seconds", (_count(index.seconds) for index in indexes))
    _row(table, "finished", ("yes" if finished else "no" for _, _, finished in caches))
    console.print(table)


def show_comparison(console: Console, found: Comparison) -> None:
    """Two caches: how they differ, how often they agree, and a line a candidate, a column of features and a class."""
    say(console, f"left:  {found.left}\nright: {found.right}")
    _, differing = side_by_side([found.left.settings, found.right.settings])
    if differing:
        table = _table("settings that differ", ["", "left", "right"])
        for name, values in differing.items():
            _row(table, name, map(short, values))
        console.print(table)
    counts = found.counts
    say(
        console,
        f"clips: {counts.compared:,} compared; {counts.both:,} in both, {counts.left_only:,} only left, "
        f"{counts.right_only:,} only right; failed: {counts.left_failed:,} left, {counts.right_failed:,} right",
    )
    if not math.isnan(found.answers):
        say(console, f"same answer: {_share(found.answers)}")
    if found.candidates:
        say(console, f"same likeliest candidate: {_share(found.choice)}")
        left, right = map(_share, found.mass)
        say(console, f"mass, the models' belief in any of the candidates: {left} left, {right} right")
    heads = ["candidate", "left", "right", "mean difference", "correlation"]
    lines = ((c.word, *map(_share, (c.left, c.right, c.difference)), _number(c.correlation)) for c in found.candidates)
    _print(console, "mean probabilities", heads, lines)
    heads = ["features", "dimensions", "cosine", "5th percentile", "CKA of the spaces"]
    sizes = [f"{f.left:,}" if f.left == f.right else f"{f.left:,} and {f.right:,}" for f in found.features]
    rest = [map(_number, (f.cosine, f.low, f.cka)) for f in found.features]
    lines = ((f.column, size, *more) for f, size, more in zip(found.features, sizes, rest, strict=True))
    _print(console, "features", heads, lines)
    for note in found.notes:
        say(console, f"note: {note}")
    _class_table(console, found)


def _class_table(console: Console, found: Comparison) -> None:
    """What is not known of any class has no column."""
    agreed = "same candidate" if found.candidates else "same answer"
    first = found.candidates[0].word if found.candidates else ""
    columns = {
        agreed: [_share(line.agreement) for line in found.classes],
        f"{first}, left": [_share(line.left) for line in found.classes],
        f"{first}, right": [_share(line.right) for line in found.classes],
        "cosine": [_number(line.cosine) for line in found.classes],
    }
    known = {head: values for head, values in columns.items() if set(values) != {"-"}}
    sizes = [f"{line.clips:,}" for line in found.classes]
    names = [line.name for line in found.classes]
    _print(console, "by class", ["class", "clips", *known], zip(names, sizes, *known.values(), strict=True))


def failed(reasons: Iterable[str]) -> str:
    """How many failed, and how many of each type, the word before the colon."""
    types = Counter(reason.partition(":")[0] for reason in reasons)
    each = ", ".join(f"{count:,} {name}" for name, count in types.most_common())
    return f"{types.total():,} ({each})" if types else "0"


def short(value: str) -> str:
    """A setting as it is printed: of a fingerprint its beginning."""
    return f"{value[:12]}…" if re.fullmatch("[0-9a-f]{40,}", value) else value


def _made(index: Index) -> dict[str, Any]:
    """The versions that rows were made with; several of one library where the cache grew under them."""
    names = sorted({name for versions in index.libraries for name in versions})
    each = {name: sorted({versions.get(name, "-") for versions in index.libraries}) for name in names}
    return {name: " and ".join(versions) for name, versions in each.items()}


def _batch(index: Index) -> str:
    return f"{index.batch}, of which {index.fit} fitted" if index.fit < index.batch else str(index.batch)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _print(console: Console, title: str, heads: Sequence[str], lines: Iterable[Iterable[str]]) -> None:
    """A table of numbers; none where there are no lines."""
    table = _table(title, heads, numbers=True)
    for name, *rest in lines:
        _row(table, name, rest)
    if table.row_count:
        console.print(table)


def _table(title: str, heads: Sequence[str], *, numbers: bool = False) -> Table:
    table = Table(title=title or None, title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(cell(head), overflow="fold", justify="right" if numbers and place else "left")
    return table


def _row(table: Table, name: str, values: Iterable[str]) -> None:
    table.add_row(cell(name), *map(cell, values))


def family_table(title: str, families: Sequence[Family]) -> Table:
    """A line a family of models; the person images that all of them look at are said once."""
    layouts = {family.layout for family in families}
    heads = ["family", "types", "for example", *(["person images"] if len(layouts) > 1 else []), "needs", "note"]
    table = _table(title if len(layouts) > 1 else f"{title}; person images: {layouts.pop()}", heads)
    for family in families:
        layout = [family.layout] if "person images" in heads else []
        _row(table, family.name, (", ".join(family.types), family.example, *layout, family.needs, family.note))
    return table
