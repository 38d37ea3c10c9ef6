"""Skeleton-based action recognition with multi-modality co-learning (MMCL, ACM MM 2024).

The functions here are the commands without a terminal: they print nothing, and raise ValueError or FileNotFoundError
for wrong use, RuntimeError or OSError for failure, each with one line that says what to do. docs/api.md has examples.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache.skeletons import Skeletons
    from .cache.store import Rows
    from .trainer.inference.predictor import Network, Prediction
    from .trainer.testing.evaluate import Evaluation

__version__ = "0.1.0"
__all__ = [
    "Evaluation",
    "Network",
    "Prediction",
    "Rows",
    "Skeletons",
    "evaluate",
    "load_run",
    "open_cache",
    "open_dataset",
    "train",
]

# what the functions give, loaded when first asked for: `import mmcl` alone loads neither torch nor numpy
_TYPES = {
    "Evaluation": "trainer.testing.evaluate",
    "Network": "trainer.inference.predictor",
    "Prediction": "trainer.inference.predictor",
    "Rows": "cache.store",
    "Skeletons": "cache.skeletons",
}


def __getattr__(name: str) -> Any:
    if name not in _TYPES:
        raise AttributeError(f"module 'mmcl' has no attribute {name!r}")
    return getattr(import_module(f".{_TYPES[name]}", __name__), name)


def load_run(path: str | Path, device: str | None = None) -> Network:
    """The network of a run's folder, or of an .onnx file of `mmcl export`, to be asked by `predict(joints)`.

    `device` is such as "cpu" or "cuda:1", the accelerator if not given; an .onnx file runs on the CPU. Raises
    FileNotFoundError or ValueError where there is no such network, or it is unfinished or damaged.
    """
    from .trainer.inference.predictor import OnnxPredictor, Predictor

    path = Path(path)
    if path.suffix.lower() != ".onnx":
        return Predictor.load(path, device)
    if device not in (None, "cpu"):
        raise ValueError(f"device {device}: an .onnx file runs on the CPU; leave it out, or give the run's folder")
    return OnnxPredictor.load(path)


def open_dataset(folder: str | Path) -> Skeletons:
    """The prepared data set in a folder of `mmcl prepare`, every clip as it was written.

    `joints[row]` is a clip, float32 [bodies * frames, V, 3], beside `names`, `labels`, `bodies` and `frames` by row.
    Raises FileNotFoundError where there is none, ValueError where it is damaged.
    """
    from .cache.skeletons import read_whole

    return read_whole(Path(folder) / "skeletons.h5")


def open_cache(folder: str | Path, name: str | None = None) -> Rows:
    """A feature cache, its rows by name: `rows.array("feature")[rows.row_of["a3_s2_t1"]]`, float [D].

    `folder` is the cache's own, or, with the model or the key of one as `name`, a data set's. `failures` says of which
    clips there are no features, and why. Raises FileNotFoundError or ValueError where no one cache is meant.
    """
    from .cache.named import cache_named
    from .cache.store import open_cache as opened

    return opened(Path(folder) if name is None else cache_named(Path(folder), name))


def train(
    data: str | Path,
    out: str | Path,
    *,
    config: str | Path | None = None,
    rgb: str | None = None,
    text: str | None = None,
    device: str | None = None,
    **settings: Any,
) -> Path:
    """Train a network as `mmcl train` does, and give its folder, `out`; called again, it resumes or is done.

    `rgb` and `text` are a model, a cache's key, or "none" for none. `config` is a TOML file or a shipped one's name,
    and `settings` are its keys (docs/training.md), such as split="xsub", epochs=20. Raises ValueError for what could
    not end well before anything is written.
    """
    from .trainer.config import from_dict
    from .trainer.loop.train import train as run_train
    from .trainer.plan import Request, decide, plan

    known = from_dict(settings, "train")
    keys = [{key: getattr(known, key) for key in settings}]
    job = decide(Request(Path(data), Path(out), Path(config) if config else None, keys, rgb, text))
    run_train(plan(job), job.out, _Nobody(), device=device)
    return job.out


def evaluate(run: str | Path, data: str | Path | None = None, device: str | None = None) -> Evaluation:
    """Test a finished run on the test clips of its split, as `mmcl evaluate` does, and write its folder's `evaluation`.

    `metrics` has top-1, top-5 and mean class accuracy. `data` replaces the data set's folder that the run remembers.
    Raises FileNotFoundError or ValueError where run or data are missing, unfinished, or do not fit.
    """
    from .trainer.loop.device import find_device
    from .trainer.testing.evaluate import evaluate as run_evaluate

    folder = None if data is None else Path(data)
    return run_evaluate(Path(run), folder, lambda done, total: None, device=find_device(device))


class _Nobody:
    """Looks on while a run trains, and says nothing."""

    def step(self, done: int, total: int) -> None:
        pass

    def epoch(self, line: object) -> None:
        pass
