"""Processes that torchrun or accelerate launch started side by side: what they all have to say is said once."""

from __future__ import annotations

import os
import zlib
from pathlib import Path


def is_said(line: str) -> bool:
    """Whether a process beside this one has said the same line; from now on it is said.

    The launcher gives the processes of one launch on one machine a folder, in which each has one for its errors.
    """
    try:
        common = Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parent.parent
        (common / f"said-{zlib.crc32(line.encode(errors='replace')):08x}").touch(exist_ok=False)
    except FileExistsError:
        return True
    except (KeyError, OSError):
        return False
    return False
