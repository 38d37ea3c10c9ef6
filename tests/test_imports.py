"""Every module can be the first that is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIRST_EACH = """
import importlib, sys, traceback
for name in sys.argv[1:]:
    for loaded in [name for name in sys.modules if name.split(".")[0] == "mmcl"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error)
"""


def test_every_module_can_be_imported_first():
    """One that needs another to be there already works in the commands, and fails in somebody's own script."""
    paths = [path for folder in ("cache", "pipeline", "trainer") for path in (ROOT / folder).rglob("*.py")]
    names = [".".join(("mmcl", *path.relative_to(ROOT).with_suffix("").parts)) for path in sorted(paths)]
    names = [name.removesuffix(".__init__") for name in names]
    assert "mmcl.pipeline.datasets.transfers" in names
    run = subprocess.run([sys.executable, "-c", FIRST_EACH, *names], capture_output=True, text=True, check=True)
    assert run.stdout == ""
