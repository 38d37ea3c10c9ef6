"""`mmcl export`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from .onnx import Exported


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `mmcl train` made.")],
    to: Annotated[str, typer.Option(help="The format: onnx.")],
    out: Annotated[Path | None, typer.Option(help="The file; RUN/model.onnx if not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="The data set's folder, where it has moved.")] = None,
) -> None:
    """A run's network with its preprocessing as one file that runs without torch, checked on its test clips."""
    if to != "onnx":
        raise ValueError(f"--to {to}: no such format; there is onnx")
    from ...cache.terminal import bars, new_console, say
    from .onnx import export_onnx

    console = new_console()
    with bars(console) as bar:
        compared = cache(lambda: bar("clips compared with PyTorch"))  # its clock starts with the first of them
        made = export_onnx(
            run,
            out or run / "model.onnx",
            data,
            begun=lambda: say(console, f"{run}: making the graph; up to a minute"),
            progress=lambda done, total: compared()(done, total),
        )
    console.print(export_table(made))
    for note in notes(made):
        say(console, note)
    say(console, f"written: {made.path}")


def export_table(made: Exported) -> Table:
    """What a file takes and gives, and how far it is from PyTorch."""
    from rich.table import Table

    from ...cache.words import cell
    from .onnx import OPSET

    run, found = made.run, made.agreement
    table = Table(title=cell(made.path.name), title_justify="left", show_header=False)
    joints = f"joints float32 [N, {run.slots}, T, {len(run.layout.joints)}, 3] ({run.layout.name}, {run.coordinates})"
    outputs = f"scores, probabilities float32 [N, {len(run.classes)}]"
    apart = (
        f"scores {found.scores:.2g} (the largest score is {found.scale:.3g}), probabilities {found.probabilities:.2g}"
    )
    for name, value in (
        ("network", f"{run.config.backbone}, {run.config.stream}, trained on {run.dataset} {run.config.split}"),
        ("inputs", f"{joints}; lengths int64 [N]"),
        ("outputs", outputs),
        ("size", f"{made.size / 1e6:.2f} MB, opset {OPSET}"),
        ("clips compared", f"{found.clips} test clips, batches of several sizes, NaN behind their ends"),
        ("largest difference", apart),
        ("same top-1", f"{found.same_top1:.2%}"),
    ):
        table.add_row(name, cell(value))
    return table


def notes(made: Exported) -> list[str]:
    """What a reader must know beside the table."""
    found, lines = made.agreement, list[str]()
    if found.far:
        lines.append(
            f"{found.far} of {found.clips} clips differ by more than rounding explains: HD-GCN takes a joint's nearest "
            "in feature space, and where two are equally near rounding chooses"
        )
    if found.left_out:
        lines.append(
            f"{found.left_out} clips were not compared: their last body is in no frame, and counts as absent here"
        )
    if made.run.config.select_on_test:
        lines.append(f"kept: {made.run.selection}")
    return lines
