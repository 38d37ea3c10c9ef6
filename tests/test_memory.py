"""Memory that is too short is recognised however a library says it."""

import numpy as np
import pytest
import torch

from mmcl.pipeline.extraction.memory import is_shortage, too_large


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
    ids=["torch", "the driver", "cuBLAS", "cuDNN", "Python"],
)
def test_a_shortage_is_recognised(error: Exception):
    assert is_shortage(error)


def test_what_torch_and_numpy_raise_without_memory_is_recognised():
    for ask in (lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: np.empty(1 << 60, np.uint8)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            ask()
        assert is_shortage(error.value)


def test_another_error_is_none():
    assert not is_shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_shortage(ValueError("out of memory"))


def test_what_is_said_is_one_line():
    assert "\n" not in str(too_large("CUDA out of memory.\nTried this and that"))
