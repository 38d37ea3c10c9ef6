"""A finished run as one ONNX file, checked against PyTorch on real clips before it is kept."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch.export import Dim

from ... import __version__
from ...cache.files import write_atomic
from ..data.skeleton import body_of
from ..loop.checkpoint import load_model
from ..model import SkeletonClassifier
from ..run import Run, read_run
from ..testing.evaluate import read_data, test_rows
from .agreement import OUTPUTS, Agreement, agreement, refuse_far
from .fused import fused
from .graph import RawClassifier
from .predictor import FORMAT

if TYPE_CHECKING:
    import onnx
    from torch.onnx import ONNXProgram

OPSET, IR_VERSION = 20, 9  # the newest that onnxruntime 1.17 (2024) runs
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUTS = ("joints", "lengths")


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from PyTorch; `size` in bytes."""

    path: Path
    run: Run
    agreement: Agreement
    size: int


def export_onnx(
    folder: Path,
    out: Path,
    data: Path | None,
    progress: Callable[[int, int], None],
    begun: Callable[[], None] = lambda: None,
) -> Exported:
    """A run's network with its preprocessing as the file `out`, which is written whole or not at all.

    `begun` is called when the words, the run and its data are found to be right. The file is compared with PyTorch on
    the run's test clips, of `data` where they have moved. Raises FileNotFoundError or ValueError where the run, its
    data or a package are missing or do not fit, RuntimeError where numbers disagree.
    """
    refuse_missing()
    run = read_run(folder)
    _refuse_place(out)
    model = load_model(folder, run)
    skeletons = read_data(run, data)
    rows = test_rows(run, skeletons, folder, moved=data is not None)
    begun()
    proto = graph_of(run, model, {**_metadata(run), "run": _digest(folder)})
    found = list[Agreement]()

    def fill(aside: Path) -> None:
        aside.write_bytes(proto.SerializeToString())
        found.append(agreement(aside, run, model, skeletons, rows, progress))
        refuse_far(found[0], run, out)

    write_atomic(out, fill)
    return Exported(out, run, found[0], out.stat().st_size)


def refuse_missing() -> None:
    """ValueError with the remedy where a package is not installed."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(f"--to onnx: {' and '.join(missing)} missing; pip install 'mmcl[onnx]'")


def _refuse_place(out: Path) -> None:
    if out.suffix.lower() != ".onnx":
        raise ValueError(f"--out {out}: wanted a name that ends in .onnx, by which `mmcl predict` knows it")
    if out.is_dir():
        raise ValueError(f"--out {out}: a folder; wanted a file, such as {out / 'model.onnx'}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}; make it first")


def graph_of(run: Run, model: SkeletonClassifier, metadata: dict[str, str]) -> onnx.ModelProto:
    """The checked graph, N and T free, with nothing about the machine that it was made on."""
    import onnx

    network = RawClassifier(fused(model), body_of(run.layout, run.slots, run.body_rule), run.config).eval()
    with _quiet():
        program = torch.onnx.export(
            network,
            (torch.rand(3, run.slots, 7, len(run.layout.joints), 3), torch.tensor([7, 5, 1])),
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: Dim("N", min=1), 2: Dim("T", min=1)}, {0: Dim("N", min=1)}),
            verbose=False,
        )
    proto = cast("ONNXProgram", program).model_proto  # what `dynamo` gives
    proto.ir_version = IR_VERSION
    _forget(proto)
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _forget(proto: onnx.ModelProto) -> None:
    """The exporter's notes out of a graph, among them the paths of source files."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _metadata(run: Run) -> dict[str, str]:
    config = run.config
    return {
        "mmcl_format": FORMAT,
        "mmcl_version": __version__,
        "dataset": run.dataset,
        "split": config.split,
        "stream": config.stream,
        "backbone": config.backbone,
        "classes": json.dumps(run.classes),
        "layout": json.dumps(asdict(run.layout)),
        "coordinates": run.coordinates,
        "slots": str(run.slots),
        "body_rule": run.body_rule,
        "selection": run.selection,
    }


def _digest(folder: Path) -> str:
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter speaks of itself: what it lacks for other networks, what it will drop."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
