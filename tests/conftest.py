"""Small real things that many tests share: a data set of acted clips with videos, tiny checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mmcl.cache.skeletons import TRAIN, Skeletons, read_skeletons
from mmcl.pipeline.datasets import open_dataset
from mmcl.pipeline.demo.synthetic import make_dataset
from mmcl.pipeline.demo.tiny import TINY, build_tiny
from mmcl.pipeline.preparation.prepare import prepare


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors are faster without threads, and sums come out the same on every machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips: 4 performers, 6 classes, samples.csv, skeletons/ and videos/. Not to be changed."""
    folder = tmp_path_factory.mktemp("raw") / "acted"
    make_dataset(folder, performers=4, trials=1)
    return folder


@pytest.fixture(scope="session")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "acted"
    prepare("acted", open_dataset("folder", raw), folder, lambda done, total: None)
    return folder


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """A test's own data folder with the skeleton cache of `raw` in it, and no feature cache yet."""
    return Path(shutil.copytree(prepared, tmp_path / "acted"))


@pytest.fixture
def skeletons(data: Path) -> Skeletons:
    return read_skeletons(data / "skeletons.h5")


@pytest.fixture
def train_rows(skeletons: Skeletons) -> np.ndarray:
    return skeletons.rows("xsub", TRAIN)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny checkpoints, one folder each."""
    folder = tmp_path_factory.mktemp("models")
    for name in TINY:
        build_tiny(name, folder)
    return folder


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    """Six pictures of coarse noise, uint8 RGB [48, 48, 3]."""
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 255, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(6)]
