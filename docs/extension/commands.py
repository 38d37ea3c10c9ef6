"""Every command with every option, by Typer's own generator: what `typer mmcl.cli utils docs` prints."""

from __future__ import annotations

import re

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from mmcl.cli import app

_HELP = re.compile(r"^\* `--help`.*\n", re.MULTILINE)  # each command has it
_LISTING = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+\n")  # cut to 45 letters, and the page's contents say it
_EMPTY = re.compile(r"\*\*Options\*\*:\n\n(?!\*)")


def commands_markdown() -> str:
    return commands_of(app)


def commands_of(app: typer.Typer) -> str:
    """A section a command of an app, without the page's own title."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="mmcl"), name="mmcl")
    _, _, body = text.partition("\n")
    return _EMPTY.sub("", _LISTING.sub("", _HELP.sub("", body)))
