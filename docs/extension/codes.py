"""The exit codes, from `main` of the command line: which errors it catches, and what it ends with."""

from __future__ import annotations

import ast
import inspect
import signal

from mmcl import cli

from .tables import code, table

MEANS = {0: "success", cli.FAILURE: "a failure", cli.WRONG_USE: "wrong use, of an option too"}


def exit_codes_markdown() -> str:
    """A line an exit code, with the Python errors behind it."""
    errors: dict[int, list[str]] = {0: [], cli.FAILURE: [], cli.WRONG_USE: []}
    for caught, number in caught_by(inspect.getsource(cli.main)):
        errors[number] += caught
    rows = [(str(number), MEANS[number], ", ".join(map(code, found))) for number, found in errors.items()]
    stopped = [(str(128 + number), f"stopped by {number.name}", "") for number in (signal.SIGINT, signal.SIGTERM)]
    return table(("exit code", "means", "errors of the Python functions"), [*rows, *stopped])


def caught_by(source: str) -> list[tuple[list[str], int]]:
    """The names of the errors that a `main` catches, with the code that it ends with for them."""
    handlers = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler) and node.type]
    known = {"WRONG_USE": cli.WRONG_USE, "FAILURE": cli.FAILURE}
    found = []
    for handler in handlers:
        names = [node.id for node in ast.walk(handler.type or handler) if isinstance(node, ast.Name)]
        codes = [node.id for part in handler.body for node in ast.walk(part) if isinstance(node, ast.Name)]
        found += [(names, known[name]) for name in codes if name in known]
    return found
