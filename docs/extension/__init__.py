"""Pages that are made from the code: `<!-- generated: NAME -->` in a page becomes what that part of the code says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from . import codes, commands, known, python, settings

PARTS: dict[str, Callable[[], str]] = {
    "commands": commands.commands_markdown,
    "config": settings.config_markdown,
    "shipped configs": settings.shipped_markdown,
    "data sets": known.datasets_markdown,
    "backbones": known.backbones_markdown,
    "losses": known.losses_markdown,
    "encoders": known.encoders_markdown,
    "python": python.python_markdown,
    "exit codes": codes.exit_codes_markdown,
}
_WANTED = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def filled(text: str) -> str:
    """A page's Markdown with every part that it wants; ValueError for a part that there is not."""

    def part(found: re.Match[str]) -> str:
        if found[1] not in PARTS:
            raise ValueError(f"generated: {found[1]}: there are {', '.join(PARTS)}")
        return PARTS[found[1]]()

    return _WANTED.sub(part, text)


def _read(app: Any, page: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def _always_new(app: Any, env: Any, *_: object) -> Iterable[str]:
    """The pages that change with the code, whenever they were built."""
    return [page for page in env.found_docs if _WANTED.search(env.doc2path(page).read_text())]


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _always_new)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
