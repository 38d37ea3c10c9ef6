"""`mmcl doctor`: whether this machine can extract, train and evaluate, and the command that mends what it can't."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .installed import BROKEN, NOTE, OK, Finding, packages, python_and_mmcl

if TYPE_CHECKING:
    from rich.table import Table

LITTLE_DISK, LITTLE_SHARED = 10e9, 256e6  # bytes
OTHERWISE = "come back other than they were written"
SPACE = "free some space there"
AGAIN = "pip install --force-reinstall {}"
UNTRIED = "not checked: whether the Hugging Face hub can be reached, video codecs but MPEG-4, several GPUs together"


def doctor(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where data sets and runs are to lie.")] = Path(),
) -> None:
    """Whether this machine can extract, train and evaluate: versions, GPU, decoder, disk, and what mends what is wrong.

    The exit code is 1 where something that is needed is broken; what is only missing for some models is a note.
    """
    from ..cache.terminal import new_console, say

    console, found = new_console(), examine(folder)
    console.print(finding_table(found))
    say(console, UNTRIED)
    broken = [finding.what for finding in found if finding.level == BROKEN]
    if broken:
        say(console, f"broken: {', '.join(broken)}", "red")
        raise typer.Exit(1)
    say(console, "extraction, training and evaluation can run here")


def examine(folder: Path) -> list[Finding]:
    """Everything that can be wrong, looked at; `folder` is where data sets are to lie, and need not exist."""
    found = [python_and_mmcl(), *packages()]
    broken = {finding.what for finding in found if finding.level == BROKEN}
    checks: tuple[tuple[str, tuple[str, ...], Callable[[], Finding]], ...] = (
        ("GPU", ("torch",), _gpu),
        ("decoder", ("numpy", "opencv-python"), _decoder),
        ("disk", (), lambda: _disk(folder)),
        ("HDF5", ("numpy", "h5py"), lambda: _hdf5(folder)),
        ("models", ("huggingface-hub",), _models),
        ("shared memory", (), _shared_memory),
    )
    for what, needed, check in checks:
        if missing := [name for name in needed if name in broken]:
            found.append(Finding(what, f"not checked: {', '.join(missing)} is broken", NOTE))
        else:
            found.append(_tried(what, check))
    return found


def finding_table(found: Sequence[Finding]) -> Table:
    """A line a finding."""
    from rich.table import Table

    from ..cache.words import cell

    table = Table(show_edge=False, title="mmcl doctor", title_justify="left")
    for heading in ("", "", "found", "to mend it"):
        table.add_column(heading, overflow="fold")
    colours = {OK: "green", NOTE: "yellow", BROKEN: "red"}
    for finding in found:
        level = f"[{colours[finding.level]}]{finding.level}[/]"
        table.add_row(cell(finding.what), level, cell(finding.found), cell(finding.mend))
    return table


def _tried(what: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds; what it raises is what is broken."""
    try:
        return check()
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding(what, said, BROKEN, SPACE if _is_full(error) else "")


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
        if product[0, 0].item() != 64:
            return Finding("GPU", f"{names[0]} multiplies wrongly", BROKEN, "CUDA_VISIBLE_DEVICES= mmcl ...")
        halves = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16: train in fp32"
        return Finding("GPU", f"{', '.join(names)}; CUDA {torch.version.cuda}; {halves}")
    if not Path("/proc/driver/nvidia/version").exists() and shutil.which("nvidia-smi") is None:
        return Finding("GPU", "none; everything runs on the CPU, slowly", NOTE)
    if torch.version.cuda is None:
        found = f"an NVIDIA driver is here, and torch {torch.__version__} is built without CUDA"
        return Finding("GPU", found, NOTE, "a torch with CUDA: https://pytorch.org/get-started/locally")
    found = f"an NVIDIA driver is here, and torch's CUDA {torch.version.cuda} can't use it: {_why_no_cuda()}"
    return Finding("GPU", found, NOTE, "a newer driver, or a torch for this one's CUDA (nvidia-smi says which)")


def _why_no_cuda() -> str:
    import torch

    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "it says that none is available"


def _decoder() -> Finding:
    """A video of eight grey frames is written, and decoded as extraction decodes."""
    import numpy as np

    from .demo.drawing import FPS, SIZE, write_video
    from .videos.decoder import Decoders

    greys = np.arange(20, 180, 20)
    with tempfile.TemporaryDirectory(prefix="mmcl-doctor-") as folder, Decoders(1) as decoders:
        path = Path(folder) / "grey.mp4"
        write_video(path, (np.full((SIZE, SIZE, 3), grey, np.uint8) for grey in greys))
        (clip,) = decoders.read(path, [len(greys)])
    if clip.total != len(greys) or np.abs(clip.frames.mean((1, 2, 3)) - greys).max() > 8:
        return Finding("decoder", f"frames {OTHERWISE}", BROKEN, AGAIN.format("opencv-python"))
    return Finding("decoder", f"{clip.total} frames of MPEG-4 at {FPS}/s came back as they were written")


def _place(folder: Path) -> Path:
    """The folder, or the nearest one above it that there is."""
    return next(place for place in (folder.resolve(), *folder.resolve().parents) if place.is_dir())


def _disk(folder: Path) -> Finding:
    """A file is written aside, synced and renamed, and a lock taken, where the data are to lie."""
    from ..cache.files import write_bytes

    place = _place(folder)
    free = shutil.disk_usage(place).free
    try:
        with tempfile.TemporaryDirectory(prefix=".mmcl-doctor-", dir=place) as aside:
            write_bytes(Path(aside) / "file", bytes(1 << 16))
            locks = _has_locks(Path(aside) / "file")
    except OSError as error:
        mend = SPACE if _is_full(error) else "name a folder that you may write to: mmcl doctor FOLDER"
        return Finding("disk", f"{place}: {error.strerror or error}", BROKEN, mend)
    found = f"{place}: {free / 1e9:,.1f} GB free"
    if not locks:
        return Finding("disk", f"{found}; no locks there: never start two processes on one share of a cache", NOTE)
    return Finding("disk", found) if free > LITTLE_DISK else Finding("disk", f"{found}, which is little", NOTE, SPACE)


def _has_locks(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _hdf5(folder: Path) -> Finding:
    """A table is written, mapped and checked where the data are to lie."""
    import h5py
    import numpy as np

    from ..cache.table import damaged_rows, read_table, write_table

    with tempfile.TemporaryDirectory(prefix=".mmcl-doctor-", dir=_place(folder)) as aside:
        path, rows = Path(aside) / "table.h5", np.arange(32, dtype=np.float32).reshape(8, 4)
        write_table(path, {"feature": rows}, {"key": "doctor"})
        columns, said = read_table(path)
        same = np.array_equal(columns["feature"], rows) and said == {"key": "doctor"} and not damaged_rows(path)  # type: ignore[arg-type]
    if not same:
        return Finding("HDF5", f"rows {OTHERWISE}", BROKEN, AGAIN.format("h5py"))
    return Finding("HDF5", f"{h5py.version.hdf5_version}, a table written and mapped")


def _models() -> Finding:
    """Where models of the hub are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place, folder = _place(Path(HF_HUB_CACHE)), Path(HF_HUB_CACHE)
    there = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    free = shutil.disk_usage(place).free
    found = f"{there} in {folder}, {free / 1e9:,.1f} GB free"
    if not os.access(place, os.W_OK):
        return Finding(
            "models", f"{found}; it can't be written to, so none can be downloaded", NOTE, "export HF_HOME=FOLDER"
        )
    if free < LITTLE_DISK:
        return Finding("models", f"{found}, which is little for a download", NOTE, f"{SPACE}, or export HF_HOME=FOLDER")
    return Finding("models", found)


def _shared_memory() -> Finding:
    """What NCCL needs between the GPUs of one machine."""
    place = Path("/dev/shm")  # noqa: S108
    if not place.is_dir():
        return Finding("shared memory", "no /dev/shm; wanted for training on several GPUs only", NOTE)
    free = shutil.disk_usage(place).free
    found = f"{free / 1e6:,.0f} MB free in {place}"
    if free < LITTLE_SHARED:
        return Finding("shared memory", f"{found}; little for several GPUs", NOTE, "docker run --shm-size=1g ...")
    return Finding("shared memory", found)
