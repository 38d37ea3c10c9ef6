"""Memory that is too short for a batch: how libraries say it, and what is said to the user."""

from __future__ import annotations

from ...cache.words import SHORT_OF_MEMORY


def is_shortage(error: Exception) -> bool:
    """Whether an error of a library says that memory was too short, on the device or beside it."""
    import torch  # not at the top: encoders are named before anything heavy is loaded

    typed = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return typed or (isinstance(error, RuntimeError) and any(words in str(error) for words in SHORT_OF_MEMORY))


def too_large(said: str) -> RuntimeError:
    """What to do where not even one clip fits; `said` is the library's word."""
    first, *_ = said.split("\n")
    return RuntimeError(
        f"out of memory with one clip a batch ({first}); take a smaller model, another --device, or "
        "--device auto to spread the model over several GPUs"
    )
