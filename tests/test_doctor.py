"""`mmcl doctor` on machines with real faults: broken packages, old ones, missing extras, folders that can't be used."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mmcl.pipeline import doctor as examined
from mmcl.pipeline.doctor import examine, finding_table
from mmcl.pipeline.installed import BROKEN, FOR, NOTE, OK, Finding, Need, import_faults, packages, python_and_mmcl

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
LIGHT = ("typer>=0.1", "rich>=10")  # so that a test of something else imports little
CRASH = "import os\nos.abort()"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before all others, here and in other processes."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
    return folder


def package(site: Path, name: str, code: str = "", *, version: str = "1.0", needs: tuple[str, ...] = ()) -> None:
    """An installed package: its module, and what is said of it."""
    (site / f"{name}.py").write_text(code)
    about = site / f"{name}-{version}.dist-info"
    about.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.11", *(f"Requires-Dist: {n}" for n in needs)]
    (about / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def mmcl_needs(site: Path, *needs: str) -> None:
    """mmcl, as if it had been installed with these needs."""
    package(site, "mmcl", version="0.1.0", needs=needs)
    (site / "mmcl.py").unlink()


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_sound_package_is_ok_and_a_broken_or_crashing_one_is_named_with_what_mends_it(site: Path):
    package(site, "whole")
    package(site, "torn", "raise ImportError('libtorn.so: no such file')")
    package(site, "crashing", CRASH)
    package(site, "after")
    mmcl_needs(site, "whole>=1.0", "torn>=0.5", "crashing", "after")
    found = by_name(list(packages()))
    assert [found[name].level for name in ("whole", "torn", "crashing", "after")] == [OK, BROKEN, BROKEN, OK]
    assert found["torn"].found == "1.0 can't be imported: ImportError: libtorn.so: no such file"
    assert found["torn"].mend == "pip install --force-reinstall 'torn>=0.5'"
    assert found["crashing"].found == "1.0 can't be imported: the process ended with -6"


def test_a_file_in_the_working_folder_is_taken_for_no_package(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package(site, "whole")
    (tmp_path / "whole.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    assert import_faults([("whole", "whole")]) == {"whole": ""}


def test_what_a_package_prints_is_not_taken_for_an_answer(site: Path):
    package(site, "chatty", "print('half a line', end='')\nprint('@mmcl hello')")
    package(site, "after")
    assert import_faults([("chatty", "chatty"), ("after", "after")]) == {"chatty": "", "after": ""}


def test_a_module_of_another_package_is_a_note(site: Path):
    """opencv-python-headless is OpenCV, too."""
    package(site, "whole")
    (site / "cv2ish.py").write_text("")
    mmcl_needs(site, "whole", "cv2ish>=5", "gone")
    found = by_name(list(packages()))
    assert found["cv2ish"] == Finding("cv2ish", "cv2ish is there, from another package", NOTE)
    assert found["gone"] == Finding("gone", "not installed", BROKEN, "pip install gone")


def test_little_space_for_models_is_a_note_that_says_what_mends_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(examined, "LITTLE_DISK", 1e18)
    found = examined._models()
    assert found.level == NOTE and "little for a download" in found.found and "HF_HOME" in found.mend


def test_an_old_and_a_missing_package_are_broken(site: Path):
    package(site, "aged", version="1.9.3")
    mmcl_needs(site, "aged>=1.10", "absent>=2")
    found = by_name(list(packages()))
    assert found["aged"] == Finding("aged", "1.9.3, wanted at least 1.10", BROKEN, "pip install 'aged>=1.10'")
    assert found["absent"] == Finding("absent", "not installed", BROKEN, "pip install 'absent>=2'")


def test_a_missing_extra_is_a_note_that_says_for_what_and_how_to_get_it(site: Path):
    package(site, "present")
    mmcl_needs(site, 'num2absent; extra == "smolvlm"', 'present; extra == "wandb"', 'pytest; extra == "dev"')
    found = by_name(list(packages()))
    assert set(found) == {"mmcl[smolvlm]", "mmcl[wandb]"}
    assert found["mmcl[smolvlm]"].level == NOTE and FOR["smolvlm"] in found["mmcl[smolvlm]"].found
    assert found["mmcl[smolvlm]"].mend == "pip install 'mmcl[smolvlm]'"
    assert found["mmcl[wandb]"] == Finding("mmcl[wandb]", "present 1.0")


def test_an_extra_that_is_there_and_broken_is_a_note(site: Path):
    package(site, "tensed", "import nowhere_at_all")
    mmcl_needs(site, 'tensed; extra == "tensorboard"')
    (found,) = packages()
    assert found.level == NOTE and "tensed can't be imported: ModuleNotFoundError" in found.found


@pytest.mark.parametrize("extra", [name for name in PROJECT["optional-dependencies"] if name != "dev"])
def test_every_extra_of_the_project_says_what_it_is_for(extra: str):
    assert FOR.get(extra), f"mmcl.pipeline.installed.FOR has no line for {extra}"


@pytest.mark.parametrize("text", [n for n in PROJECT["dependencies"] if n.startswith(("numpy", "pillow", "hugg"))])
def test_a_package_is_looked_for_under_the_name_of_its_module(text: str):
    need = Need.of(text)
    assert need.least and need.installed
    assert import_faults([(need.name, need.module)]) == {need.name: ""}


def test_a_python_that_is_too_old_and_a_source_tree_that_is_not_installed_are_broken(
    site: Path, monkeypatch: pytest.MonkeyPatch
):
    mmcl_needs(site)
    assert python_and_mmcl().level == OK
    about = site / "mmcl-0.1.0.dist-info" / "METADATA"
    about.write_text(about.read_text().replace(">=3.11", ">=3.99"))
    assert python_and_mmcl().level == BROKEN and "wanted at least 3.99" in python_and_mmcl().found
    monkeypatch.setattr(sys, "path", [])
    assert python_and_mmcl() == Finding("mmcl", python_and_mmcl().found, BROKEN, "pip install .")
    assert list(packages()) == []


def test_the_decoder_is_started_and_a_broken_one_is_found(site: Path, tmp_path: Path):
    mmcl_needs(site, *LIGHT)
    whole = by_name(examine(tmp_path))
    assert whole["decoder"].level == OK and whole["HDF5"].level == OK and whole["disk"].level in (OK, NOTE)
    (site / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")  # to others alone
    found = by_name(examine(tmp_path))
    assert found["decoder"].level == BROKEN and "no decoder can be started" in found["decoder"].found


def test_what_needs_a_broken_package_is_not_checked_and_says_so(site: Path, tmp_path: Path):
    package(site, "h5py", "raise OSError('torn')", version="3.99")
    mmcl_needs(site, *LIGHT, "h5py>=3")
    found = by_name(examine(tmp_path))
    assert found["h5py"].level == BROKEN
    assert found["HDF5"] == Finding("HDF5", "not checked: h5py is broken", NOTE)


def test_a_folder_that_cannot_be_written_is_broken_and_one_that_is_not_there_yet_is_not(site: Path, tmp_path: Path):
    mmcl_needs(site, *LIGHT)
    assert by_name(examine(tmp_path / "not" / "yet"))["disk"].level in (OK, NOTE)
    found = by_name(examine(Path("/proc/self")))
    assert (found["disk"].level, found["HDF5"].level) == (BROKEN, BROKEN)
    assert "mmcl doctor FOLDER" in found["disk"].mend


def test_it_leaves_nothing_behind(site: Path, tmp_path: Path):
    mmcl_needs(site, *LIGHT)
    folder = tmp_path / "data"
    folder.mkdir()
    examine(folder)
    assert list(folder.iterdir()) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from mmcl.pipeline import doctor
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for what, check in (("disk", doctor._disk), ("HDF5", doctor._hdf5)):
    print(*doctor._tried(what, lambda: check(Path(sys.argv[1]))), sep="|")
"""


def test_a_disk_without_space_is_broken_and_says_so(tmp_path: Path):
    """A process that may write no file of over a hundred bytes, as on a full disk."""
    ran = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    disk, table = ran.stdout.splitlines()
    assert f"|{BROKEN}|free some space there" in disk
    assert table.startswith("HDF5|") and f"|{BROKEN}|free some space there" in table


def test_a_temporary_folder_that_is_none_is_a_broken_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    found = examined._tried("decoder", examined._decoder)
    assert found.level == BROKEN and "gone" in found.found


COMMAND = (
    "import sys, typer\nfrom mmcl.pipeline.doctor import doctor\napp = typer.Typer()\napp.command()(doctor)\napp()"
)


@pytest.mark.parametrize(("needs", "code"), [((), 0), (("absent>=2",), 1)])
def test_the_exit_code_says_whether_all_stages_can_run(site: Path, tmp_path: Path, needs: tuple[str, ...], code: int):
    mmcl_needs(site, *LIGHT, *needs, 'absent; extra == "timm"')
    ran = subprocess.run(
        [sys.executable, "-P", "-c", COMMAND, str(tmp_path)], capture_output=True, text=True, env=os.environ
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    last = ran.stdout.splitlines()[-1]
    assert last == ("broken: absent" if code else "extraction, training and evaluation can run here")
    assert "not checked: whether the Hugging Face hub can be reached" in ran.stdout
    assert "pip install 'mmcl[timm]'" in ran.stdout


def test_a_name_in_a_fault_is_no_markup():
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(finding_table([Finding("mmcl[timm]", "[red]\x1b[2J", BROKEN)]))
    assert "mmcl[timm]" in shown.get() and "[red]" in shown.get() and "\x1b" not in shown.get()
