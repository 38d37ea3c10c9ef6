"""What one process does for all: the main one looks, locks and reads, and all know what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from ..processes import alone, share

Made = TypeVar("Made")
OF_ALL = "raised in all processes"  # an attribute of such errors


def from_main(make: Callable[[], Made]) -> Made:
    """What `make` gives in the main process, in all processes; what it raises there is raised in all of them.

    `is_of_all` knows such an error again.
    """
    if alone():
        return make()
    found: list[Any] = [None, None]
    if share().main:
        try:
            found[0] = make()
        except Exception as error:
            found[1] = error
    dist.broadcast_object_list(found)
    if found[1] is not None:
        vars(found[1])[OF_ALL] = True
        raise found[1]
    return found[0]


def is_of_all(error: Exception) -> bool:
    """Whether `from_main` raised it in all processes of a launch; any other may be one process's own."""
    return OF_ALL in vars(error)
