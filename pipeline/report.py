"""What the commands of stage one show: progress, tables of data sets and caches."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from ..cache.files import write_csv
from ..cache.skeletons import TEST, TRAIN, Skeletons
from ..cache.terminal import say
from ..cache.words import cell
from .extraction.clock import DEVICE_STEPS, Clock, bottleneck

if TYPE_CHECKING:
    from .extraction.stage import Extraction, Report
    from .preparation.dataset import Finding
    from .preparation.prepare import Prepared

LISTED = 40  # kinds of findings, or failed clips, shown on the terminal; all of them are in a file
DOUBTFUL = 0.5  # of a model's belief in a prompt's candidates: below, it mostly says something else
OF_THE_MODEL = ("not finite", "overflow", "constant")  # how failures begin that are no fault of a video

DEMO_END = """
Made: {raw} (raw data), {data} (skeleton and feature caches), {run} (network, metrics, evaluation)
Your own data: a folder with samples.csv (name, label, skeleton, and subject or split), skeletons and videos; then
  mmcl prepare folder RAW --out data/mine
  mmcl extract-features data/mine --videos RAW --rgb microsoft/resnet-34 --llm Salesforce/blip-vqa-capfilt-large
  mmcl train data/mine --out runs/mine && mmcl evaluate runs/mine"""


def data_table(skeletons: Skeletons) -> Table:
    """What is in a skeleton cache: clips, classes, people, lengths, and the size of each split."""
    table = Table(title=f"{cell(skeletons.dataset)}: {len(skeletons.names):,} clips", title_justify="left")
    table.add_column("what")
    table.add_column("found")
    frames = skeletons.frames
    table.add_row("classes", str(len(skeletons.classes)))
    for name, values in skeletons.columns.items():
        known = np.unique(values[values >= 0])
        between = f" ({known.min()} to {known.max()})" if len(known) else ""
        table.add_row(cell(name), f"{len(known)}{between}")
    table.add_row("frames", f"{frames.min()} to {frames.max()}, median {np.median(frames):.0f}")
    table.add_row("bodies", f"{skeletons.bodies.min()} to {skeletons.bodies.max()}")
    units = "metres" if skeletons.coordinates == "metres" else "a 2D pose, shares of the picture"
    table.add_row("joints", cell(f"{len(skeletons.layout.joints)} ({skeletons.layout.name}), {units}"))
    if skeletons.image_points is not None:
        table.add_row("in the video", "where each joint is; person boxes need no detector")
    for name, split in skeletons.splits.items():
        sizes = f"{(split.sides == TRAIN).sum():,} train, {(split.sides == TEST).sum():,} test"
        counted = f"; {len(split.classes)} classes" if split.classes else ""
        table.add_row(f"split {cell(name)}", f"{sizes}{counted}; absent bodies: {split.body_rule}")
    for known in skeletons.transfers:
        chosen = f"from {known.dataset}: {len(known.classes)} classes, chosen by {known.source}"
        table.add_row("transfer", cell(chosen))
    return table


def show_prepared(console: Console, prepared: Prepared, out: Path) -> None:
    """What a data set came to, what its readers counted, every odd file or the first of them, and what to mind."""
    console.print(data_table(prepared.skeletons))
    if prepared.counts:
        console.print(count_table(prepared.counts))
    for line in finding_lines(prepared.findings):
        say(console, line)
    if prepared.findings:
        say(console, f"all findings ({len(prepared.findings):,}): {out / 'findings.csv'}")
    for warning in prepared.warnings:
        say(console, f"note: {warning}", "yellow")
    say(console, f"{'all is there already' if prepared.again else 'written'}: {out / 'skeletons.h5'}")
    if prepared.unread:
        said = f"{prepared.unread:,} files could not be read; run the same command again, it looks at all of them anew"
        say(console, said, "red")


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """A line for each kind of finding, by its first file; kinds differ in more than numbers, or after the colon."""
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[re.sub("[0-9]+", "#", finding.found.split(":")[0]), finding.done].append(finding)
    lines = [(f"{alike[0].file}: {alike[0].found}; {alike[0].done}", len(alike) - 1) for alike in kinds.values()]
    shown = [f"{line}; and {more:,} like it" if more else line for line, more in lines[:LISTED]]
    return shown + ([f"and {len(lines) - LISTED:,} kinds of findings more"] if len(lines) > LISTED else [])


def count_table(counts: Mapping[str, int]) -> Table:
    """What the readers counted over all files."""
    table = Table(title="in the files", title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    for what, count in counts.items():
        table.add_row(cell(what), f"{count:,}")
    return table


def cache_table(reports: Sequence[Report]) -> Table:
    """A line a cache: its kind, key, model, rows, failed rows, and what was done about it."""
    table = Table(title="caches", title_justify="left")
    for column in ("kind", "key", "model", "prompt"):
        table.add_column(column, overflow="fold")
    for column in ("clips", "failed"):
        table.add_column(column, justify="right")
    table.add_column("status")
    for report in reports:
        recipe, failed = report.recipe, len(report.failures)
        cells = (recipe.kind, recipe.key, recipe.model, recipe.prompt, f"{report.rows:,}", f"{failed:,}")
        table.add_row(*map(cell, (*cells, report.note)), style="red" if failed else None)
    return table


def time_table(clock: Clock, cores: int) -> Table:
    """A line a step: its work, and its share of the time that the command took."""
    table = Table(title="where the time went", title_justify="left")
    table.add_column("step")
    for column in ("seconds of work", "of the time, on its cores"):
        table.add_column(column, justify="right")
    for step, spent in clock.seconds.items():
        share = spent / clock.wall / (1 if step in DEVICE_STEPS else cores)
        table.add_row(step, f"{spent:,.1f}", f"{share:.0%}")
    return table


def show_extraction(console: Console, extraction: Extraction) -> None:
    """The caches, the videos that were opened, and where the time went."""
    console.print(cache_table(extraction.reports))
    console.print(f"videos decoded: {extraction.decoded:,}")
    if seconds := extraction.clock.seconds:
        console.print(time_table(extraction.clock, extraction.shard.cores))
        step = bottleneck(seconds, extraction.shard.cores)
        console.print(
            f"bottleneck: {step if step in DEVICE_STEPS else f'the CPU beside the device, {step} most of all'}"
        )
    for report in extraction.reports:
        if report.mass is not None and report.mass < DOUBTFUL:
            unheard = f"only {report.mass:.1%} of its belief (median) is in {report.recipe.settings['candidates']}"
            say(console, f"{report.recipe}: {unheard}; it answers in other words, and the probabilities say little")
    if extraction.missing and extraction.shard.count > 1:
        share = f"this was share {extraction.shard} of the work"
        say(console, f"not complete: {share}; the process that makes the last rows merges all", "yellow")


def note_failures(console: Console, extraction: Extraction, listed: Path) -> bool:
    """Say which clips failed, and list them all in a file; whether any did."""
    failures = {name: reason for report in extraction.reports for name, reason in report.failures.items()}
    if listed.exists():  # asked first: a read-only folder may be used too
        listed.unlink()
    if not failures:
        return False
    for name, reason in list(failures.items())[:LISTED]:
        say(console, f"failed: {name}: {reason}", "red")
    write_csv(listed, ("name", "failure"), failures.items())
    say(console, f"{len(failures)} clips failed and keep a row without features; all are in {listed}", "red")
    say(console, _cure(set(failures.values())), "red")
    return True


def _cure(reasons: set[str]) -> str:
    """What to do about clips that failed for these reasons."""
    of_model = {reason for reason in reasons if reason.startswith(OF_THE_MODEL)}
    videos = "mend their videos and run the same command with --videos and --retry-failed"
    model = "the model gave no usable numbers for them: look at its dtype and preprocessing, then --retry-failed"
    return "\n".join(([model] if of_model else []) + ([videos] if reasons - of_model else []))


def demo_table(top1: float, chance: float, clips: int) -> Table:
    table = Table(title="demo: performers that were not trained on, skeletons only", title_justify="left")
    for column in ("test clips", "top-1", "chance"):
        table.add_column(column, justify="right")
    table.add_row(str(clips), f"{top1:.1%}", f"{chance:.1%}")
    return table
