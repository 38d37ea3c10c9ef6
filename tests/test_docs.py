"""The documentation site: built without a network and without a warning, whole, and true to the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
from typer.main import get_command

import mmcl
from mmcl import cli
from mmcl.docs.extension import PARTS, filled
from mmcl.docs.extension.codes import caught_by
from mmcl.docs.extension.commands import commands_of
from mmcl.docs.extension.settings import Key, keys_of, keys_table
from mmcl.docs.extension.tables import table
from mmcl.pipeline.datasets import DATASETS
from mmcl.pipeline.encoders.families import LLM_FAMILIES, RGB_FAMILIES
from mmcl.pipeline.installed import FOR
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.colearning.classify import CLASSIFY
from mmcl.trainer.config import CHOICES, Config, shipped_names

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
NO_NETWORK = """
import socket
def connect(*_):
    raise RuntimeError("the documentation asks for a network")
socket.socket.connect = socket.socket.connect_ex = connect
socket.getaddrinfo = connect
"""


class Page(HTMLParser):
    """The ids, the links and the text of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.words = set[str](), list[str](), list[str]()
        self.feed(path.read_text())
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := said.get(name))}
        self.links += [value for name in ("href", "src") if (value := said.get(name))]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, in a process that can't reach any network."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "none").mkdir()
    (folder / "none" / "sitecustomize.py").write_text(NO_NETWORK)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "site")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "none"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder / "site"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_built(pages: dict[Path, Page], site: Path):
    wanted = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in PAGES}
    assert wanted <= {path.relative_to(site) for path in pages}


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, Page], site: Path):
    broken = [f"{path.relative_to(site)}: {link}" for path, page in pages.items() for link in dead(path, page, pages)]
    assert not broken


def dead(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """The links of a page that lead to no file or to no place in a page."""
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
            yield link


def test_no_page_asks_for_anything_from_elsewhere(pages: dict[Path, Page]):
    """Fonts, styles and scripts lie in the site: it can be read offline."""
    asked = re.compile(r"""(?:src|srcset)=["']https?:|<link[^>]+href=["']https?:""")
    assert not [path.name for path in pages if asked.search(path.read_text())]


@pytest.mark.parametrize(
    "path", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_pages_links_to_files_resolve_on_github_too(path: Path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    assert not [link for link in links if ":" not in link and not (path.parent / link).exists()]


def parameters(command: Any, path: str = "mmcl") -> Iterator[tuple[str, str]]:
    """Each command and each of its options, as they are typed."""
    yield path, path
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            yield path, max(parameter.opts, key=len)
    for name, inner in getattr(command, "commands", {}).items():
        yield from parameters(inner, f"{path} {name}")


def test_the_commands_page_has_every_command_with_every_option(pages: dict[Path, Page], site: Path):
    text = pages[site / "reference" / "commands.html"].text
    known = list(parameters(get_command(cli.app)))
    assert len(known) > 50
    assert not [word for _, word in known if word not in text]


def test_the_config_page_has_every_key_with_its_choices_and_every_shipped_file(pages: dict[Path, Page], site: Path):
    text = pages[site / "reference" / "config.html"].text
    choices = [value for values in CHOICES.values() for value in values]
    wanted = [*Config.__dataclass_fields__, *choices, *BACKBONES, *CLASSIFY, *(f"{n}.toml" for n in shipped_names())]
    assert not [word for word in wanted if word not in text]


def test_the_models_page_has_whatever_is_registered(pages: dict[Path, Page], site: Path):
    text = pages[site / "reference" / "models.html"].text
    families = [family.name for family in (*LLM_FAMILIES, *RGB_FAMILIES)]
    assert not [word for word in (*DATASETS, *BACKBONES, *families) if word not in text]


def test_the_python_page_has_every_name_of_the_package(pages: dict[Path, Page], site: Path):
    text = pages[site / "reference" / "python.html"].text
    assert not [name for name in mmcl.__all__ if f"mmcl.{name}" not in text]
    assert "train( data: str | Path," in text


def test_the_exit_codes_are_those_of_the_command_line(pages: dict[Path, Page], site: Path):
    text = pages[site / "reference" / "commands.html"].text
    for code, error in ((1, "RuntimeError"), (2, "ValueError"), (130, "SIGINT"), (143, "SIGTERM")):
        assert re.search(rf"{code} [^|]*?{error}", text)


def test_the_start_says_what_every_extra_is_for():
    text = (ROOT / "docs" / "start.md").read_text()
    assert not [extra for extra in FOR if f"`mmcl[{extra}]`" not in text]


# -- the generators: what is new in the code is on the page


def test_a_new_command_and_a_new_option_are_in_the_text():
    app, inner = typer.Typer(), typer.Typer(help="Inner things.")
    app.add_typer(inner, name="inner")

    @app.command()
    def outer(fast: Annotated[bool, typer.Option("--fast", help="In a hurry.")] = False) -> None:
        """Out we go."""

    @inner.command("some-thing")
    def some_thing(number: Annotated[int, typer.Option(min=1, help="How many.")] = 3) -> None:
        """In we go."""

    text = commands_of(app)
    for wanted in (
        "## `mmcl outer`",
        "Out we go.",
        "* `--fast`: In a hurry.",
        "### `mmcl inner some-thing`",
        "--number",
    ):
        assert wanted in text
    assert "--help" not in text and "**Options**:\n\n#" not in text


CONFIG = '''
class Config:
    """Keys."""

    size: int = 3  # how large
    # in lines of its own,
    # two of them
    names: tuple[str, ...] = ("a", "b")

    turn: tuple[float, float] = (0.5, 1.0)  # degrees
    on: bool = False  # whether, or not | ever
'''


def test_a_new_key_is_there_with_its_type_default_comment_and_choices():
    keys = keys_of(CONFIG)
    assert keys == [
        Key("size", "whole number", "3", "how large"),
        Key("names", "list of texts", '["a", "b"]', "in lines of its own, two of them"),
        Key("turn", "list of 2 numbers", "[0.5, 1.0]", "degrees"),
        Key("on", "true or false", "false", "whether, or not | ever"),
    ]
    shown = keys_table(keys, {"names": ("a", "b")})
    assert '| `names` | list of texts | `["a", "b"]` | In lines of its own, two of them. One of `a`, `b`. |' in shown
    assert "not \\| ever" in shown


def test_a_key_without_a_comment_is_refused_by_its_name():
    with pytest.raises(ValueError, match="config key size, line 5: no comment"):
        keys_of(CONFIG.replace("  # how large", ""))


def test_an_error_that_the_command_line_catches_is_found_with_its_code():
    caught = "except (KeyError, OSError) as e:\n    _fail(e, FAILURE)\nexcept ValueError as e:\n    _fail(e, WRONG_USE)"
    source = f"try:\n    run()\n{caught}"
    assert caught_by(source) == [(["KeyError", "OSError"], 1), (["ValueError"], 2)]


def test_a_page_that_wants_a_part_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="generated: weather: there are commands"):
        filled("# A page\n\n<!-- generated: weather -->\n")


def test_every_part_is_on_some_page():
    text = "".join(path.read_text() for path in PAGES)
    assert not [name for name in PARTS if f"<!-- generated: {name} -->" not in text]


def test_a_bar_in_a_cell_is_no_border():
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"
