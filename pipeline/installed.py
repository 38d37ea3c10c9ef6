"""Which packages are installed, in which versions, whether they can be imported, and what each extra is for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

OK, NOTE, BROKEN = "ok", "note", "BROKEN"
MODULES = {  # what is imported of a package that is not called as its module, or that imports lazily
    "huggingface-hub": "huggingface_hub",
    "opencv-python": "cv2",
    "pillow": "PIL.Image",
    "scipy": "scipy.io",
    "matplotlib": "matplotlib.figure",
    "myst-parser": "myst_parser",
    "transformers": "transformers:AutoModelForImageTextToText",
}
FOR = {  # what an extra is for
    "vision": "image processors that transformers has for torchvision only",
    "timm": "RGB networks of timm, the paper's Inception-V3 among them",
    "smolvlm": "SmolVLM, whose processor spells numbers",
    "tensorboard": "mmcl train --track tensorboard",
    "wandb": "mmcl train --track wandb",
    "onnx": "mmcl export --to onnx",
    "docs": "make docs",
}
ANSWER = "@mmcl-doctor "  # how an answer's line begins: packages print what they like while they are imported
IMPORTING = """
import importlib, json, sys
for name, module in json.loads(sys.argv[1]):
    module, _, member = module.partition(":")
    try:
        found = importlib.import_module(module)
        said = "" if not member or getattr(found, member) else "?"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    print("\\n" + sys.argv[2] + json.dumps([name, said]), flush=True)
"""
PATIENCE = 300  # seconds, for all imports together


class Finding(NamedTuple):
    """What was looked at, what was found, whether it is ok, and the command that mends it."""

    what: str
    found: str
    level: str = OK
    mend: str = ""


@dataclass(frozen=True)
class Need:
    """A package that mmcl wants, at least in a version; `extra` is the one that it belongs to, or nothing."""

    name: str
    least: str
    extra: str

    @staticmethod
    def of(text: str) -> Need:
        """As a package's metadata says it: torch>=2.11, or timm; extra == "timm"."""
        name, _, least = text.partition(";")[0].strip().partition(">=")
        extra = re.search(r"""extra\s*==\s*["']([\w.-]+)["']""", text)
        return Need(name.strip(), least.strip(), extra[1] if extra else "")

    @property
    def module(self) -> str:
        return MODULES.get(self.name, self.name)

    @property
    def installed(self) -> str:
        """Its version here; empty where there is none."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            return ""


def python_and_mmcl() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    try:
        wanted = metadata("mmcl")["Requires-Python"].removeprefix(">=")
    except PackageNotFoundError:
        return Finding("mmcl", "not installed as a package, so nothing is known of its needs", BROKEN, "pip install .")
    if numbers_of(found) < numbers_of(wanted):
        return Finding("Python", f"{found}, wanted at least {wanted}", BROKEN, f"make PYTHON=python{wanted} demo")
    return Finding("Python", f"{found} in {sys.prefix}, with mmcl {version('mmcl')}")


def packages() -> Iterator[Finding]:
    """A finding for each package that is needed and for each extra, all of them imported by another process."""
    try:
        needs = [Need.of(text) for text in requires("mmcl") or ()]
    except PackageNotFoundError:
        return
    needs = [need for need in needs if need.extra != "dev" and not need.name.startswith("mmcl")]
    faults = import_faults([(need.name, need.module) for need in needs if need.installed or not need.extra])
    for need in (need for need in needs if not need.extra):
        yield _package(need, faults[need.name])
    for extra in dict.fromkeys(need.extra for need in needs if need.extra):
        yield _extra(extra, [need for need in needs if need.extra == extra], faults)


def _package(need: Need, fault: str) -> Finding:
    wanted = f"'{need.name}>={need.least}'" if need.least else need.name
    if not need.installed and fault:
        return Finding(need.name, "not installed", BROKEN, f"pip install {wanted}")
    if not need.installed:
        return Finding(need.name, f"{need.module.partition(':')[0]} is there, from another package", NOTE)
    if fault:
        mend = f"pip install --force-reinstall {wanted}"
        return Finding(need.name, f"{need.installed} can't be imported: {fault}", BROKEN, mend)
    if numbers_of(need.installed) < numbers_of(need.least):
        return Finding(need.name, f"{need.installed}, wanted at least {need.least}", BROKEN, f"pip install {wanted}")
    return Finding(need.name, need.installed)


def _extra(extra: str, needs: Sequence[Need], faults: dict[str, str]) -> Finding:
    what, use, get_it = f"mmcl[{extra}]", FOR.get(extra, "?"), f"pip install 'mmcl[{extra}]'"
    if missing := [need.name for need in needs if not need.installed]:
        return Finding(what, f"{', '.join(missing)} not installed; for {use}", NOTE, get_it)
    if said := [f"{need.name} can't be imported: {faults[need.name]}" for need in needs if faults.get(need.name)]:
        return Finding(what, f"{'; '.join(said)}; for {use}", NOTE, get_it.replace("install", "install -U", 1))
    return Finding(what, ", ".join(f"{need.name} {need.installed}" for need in needs))


def import_faults(modules: Sequence[tuple[str, str]]) -> dict[str, str]:
    """By name why a module, or a member of one (`module:member`), can't be imported; "" for one that can.

    It is tried in another process: a library that crashes takes nobody along, and the others are tried all the same.
    """
    faults, left = dict[str, str](), list(modules)
    while left:
        command = [sys.executable, "-P", "-c", IMPORTING, json.dumps(left), ANSWER]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)  # noqa: S603 - this Python
            said, how = tried.stdout, f"the process ended with {tried.returncode}"
        except subprocess.TimeoutExpired as error:
            said, how = (error.stdout or b"").decode(), f"silent for {PATIENCE} s"
        answers = [json.loads(line.removeprefix(ANSWER)) for line in said.splitlines() if line.startswith(ANSWER)]
        faults |= {name: fault.partition("\n")[0] for name, fault in answers}
        left = [one for one in left if one[0] not in faults]
        if left:  # the one after the last answer took the process with it
            faults[left.pop(0)[0]] = how
    return faults


def numbers_of(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3])
