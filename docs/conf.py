"""The documentation site: Markdown pages, and what is made from the code. Built by `make docs`, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where `extension` lies

from importlib.metadata import version as version_of

project = "mmcl"
author = "the mmcl contributors"
release = version = version_of("mmcl")
extensions = ["myst_parser", "extension"]
exclude_patterns = ["extension", "examples", "static"]
nitpicky = True
smartquotes = False  # two dashes begin an option
highlight_language = "none"  # blocks without a language are commands and trees

myst_heading_anchors = 4  # so that a page can link to another's section as on GitHub
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "mmcl"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
