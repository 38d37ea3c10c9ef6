"""The HTML report of a run or of a comparison: one file that works offline, every string in it escaped."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...cache.files import write_bytes
from ...cache.skeletons import Skeletons
from ..testing.compare import Comparison
from ..testing.compare_files import REPORT as NAME
from ..testing.evaluate import Evaluation
from ..testing.speed import Speed
from . import drawing
from .compared import ComparisonContent
from .content import RunContent
from .matrix import TOGETHER
from .of_comparison import comparison_content
from .of_run import run_content

HERE = Path(__file__).parent


def write_run_report(
    evaluation: Evaluation,
    skeletons: Skeletons,
    folder_of_run: Path,
    speed: Speed | None = None,
    data: Path | None = None,
) -> Path:
    """Write the report into the evaluation's folder, whole or not at all, and give its path.

    `skeletons` are those that were tested on; person images and answers come from the caches beside them in `data`
    (else the folder that the run remembers), and where these are gone the report says so.
    """
    content = run_content(evaluation, skeletons, folder_of_run, speed, data or Path(evaluation.run.data))
    path = evaluation.folder / NAME
    write_bytes(path, run_page(content).encode(errors="backslashreplace"))
    return path


def write_comparison_report(comparison: Comparison) -> Path:
    """Write the report into the comparison's folder, whole or not at all, and give its path."""
    comparison.folder.mkdir(parents=True, exist_ok=True)
    path = comparison.folder / NAME
    write_bytes(path, comparison_page(comparison_content(comparison)).encode(errors="backslashreplace"))
    return path


def comparison_page(content: ComparisonContent) -> str:
    """The page of a comparison."""
    return _rendered("comparison.html", content, {})


def run_page(content: RunContent) -> str:
    """The page of one run."""
    matrix = content.matrix
    data = {
        "matrix": drawing.scripted_matrix(matrix),
        "mistakes": drawing.scripted_mistakes(content.mistakes) if content.mistakes.clips else None,
    }
    return _rendered("run.html", content, data, f":root{{--size:{matrix.size}px;--classes:{len(matrix.classes)}}}")


def _rendered(template: str, content: RunContent | ComparisonContent, data: dict[str, Any], sizes: str = "") -> str:
    """A page with its style and script inside, which alone its policy lets run: they are named there by their hash."""
    style, script = (HERE / "page.css").read_text() + sizes, (HERE / "page.js").read_text()
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    inside = {"style": Markup(style), "script": Markup(script), "policy": policy}  # noqa: S704 - our own two files
    return (
        _templates().get_template(template).render(c=content, data=data, drawing=drawing, together=TOGETHER, **inside)
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _templates() -> Environment:
    """Jinja with escaping on, and an error for a name that is not there."""
    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["percent"] = lambda share, digits=1: f"{share:.{digits}%}"
    found.filters["points"] = lambda share: f"{100 * share:+.1f}"
    found.filters["number"] = lambda count: f"{count:,}"
    found.filters["shown"] = drawing.shown
    return found
