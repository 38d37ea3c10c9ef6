"""The shape of the project: which side imports what, what the wheel holds, what the README says of it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = sorted(
    path.relative_to(ROOT)
    for folder in ("cache", "pipeline", "trainer")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)


def loaded_by(*modules: str) -> set[str]:
    """What a fresh interpreter has loaded after importing some modules."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def modules_of(folder: str) -> list[str]:
    paths = [path for path in SHIPPED if path.parts[0] == folder]
    return [".".join(("mmcl", *path.with_suffix("").parts)).removesuffix(".__init__") for path in paths]


def test_the_trainer_sees_no_raw_file_and_no_big_model():
    loaded = loaded_by(*modules_of("trainer"))
    assert not {name for name in loaded if name.split(".")[0] in ("transformers", "cv2")}
    assert not {name for name in loaded if name.startswith("mmcl.pipeline")}


def test_the_pipeline_sees_no_network_in_training():
    assert not {name for name in loaded_by(*modules_of("pipeline")) if name.startswith("mmcl.trainer")}


def test_the_cache_knows_neither_side():
    loaded = loaded_by(*modules_of("cache"))
    assert not {name for name in loaded if name.startswith(("mmcl.pipeline", "mmcl.trainer"))}
    assert not loaded & {"torch", "transformers", "cv2"}


def test_help_loads_nothing_heavy():
    """`mmcl --help` answers at once."""
    code = (
        "import sys\nfrom mmcl.cli import main\nsys.argv = ['mmcl', '--help']\n"
        "try: main()\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "extract-features" in out
    assert not set(out.split("LOADED")[1].split()) & {"torch", "numpy", "h5py", "cv2", "transformers"}


def test_the_wheel_holds_every_package_of_the_tree():
    found = {"mmcl"} | {".".join(("mmcl", *path.parent.parts)) for path in SHIPPED if path.name == "__init__.py"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found
    assert {".".join(("mmcl", *path.parent.parts)) for path in SHIPPED} <= found


def test_the_wheel_holds_nothing_that_lies_at_the_root_by_chance():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py"}


@pytest.mark.parametrize("path", [Path("cli.py"), *SHIPPED], ids=str)
def test_the_readme_has_a_line_for_the_file(path):
    tree = (ROOT / "README.md").read_text()
    assert path.name == "__init__.py" or path.name in tree, f"README.md does not mention {path}"


def test_versions_agree():
    import mmcl

    assert mmcl.__version__ == PROJECT["project"]["version"]
    assert f"## {mmcl.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_dependency_is_capped():
    assert not [need for need in PROJECT["project"]["dependencies"] if "<" in need or "==" in need]
