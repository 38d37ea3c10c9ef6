"""A trained network asked about clips: a run by the product's own path, or an exported file in ONNX Runtime alone.

Neither torch nor onnxruntime is loaded before one of them is asked for.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from ...cache.skeletons import COORDINATES, Layout, Skeletons
from ...cache.table import Ragged

if TYPE_CHECKING:
    import onnxruntime
    import torch

    from ..model import SkeletonClassifier
    from ..run import Run

FORMAT = "1"  # of an exported file's metadata; raised when a key changes its meaning
ANEW = "export it again with `mmcl export`"
SAID = 160  # letters of a library's error that are shown
BATCH, FRAMES = 64, 1 << 16  # clips that ONNX Runtime is given together, and frames with those that fill them up


class Prediction(NamedTuple):
    """A class by name, and its probability: the softmax of one network, not calibrated."""

    name: str
    probability: float


@dataclass(frozen=True)
class About:
    """What a network was trained on, what it takes and what it tells apart; `kept` is how its epoch was chosen."""

    dataset: str
    split: str
    stream: str
    backbone: str
    classes: tuple[str, ...]
    layout: Layout
    slots: int
    coordinates: str
    kept: str

    def __str__(self) -> str:
        trained = f"{self.dataset} {self.split}, stream {self.stream}, {self.backbone}, {len(self.classes)} classes"
        return f"{trained}{f', {self.kept}' if self.kept else ''}; probabilities: one network's softmax, not calibrated"


class Network(ABC):
    """A trained network, to which clips are given as arrays.

    A clip is joints [M, T, V, 3], or [T, V, 3] of one body: real bodies only, up to `slots` of them, raw as the
    skeleton cache holds them (metres from the camera; or x, y from -1 to 1 over the picture and a score), in the order
    of `layout`. Clips may differ in length and bodies. ValueError for one that is no such thing.
    """

    def __init__(self, about: About) -> None:
        self.about = about

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.about}>"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.about.classes

    @property
    def layout(self) -> Layout:
        return self.about.layout

    @property
    def slots(self) -> int:
        """M: the bodies that it has room for."""
        return self.about.slots

    @property
    def stream(self) -> str:
        return self.about.stream

    @property
    def coordinates(self) -> str:
        """ "metres" or "image"."""
        return self.about.coordinates

    def scores(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """S_M of some clips, before any softmax: float32 [n, K]."""
        checked = [self._checked(clip, number) for number, clip in enumerate(clips)]
        return self._scores(checked) if checked else np.zeros((0, len(self.classes)), np.float32)

    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """The softmax of the scores, float32 [n, K]; NaN for a clip whose scores are not finite."""
        scores = self.scores(clips)
        return softmax(np.where(np.isfinite(scores).all(axis=1, keepdims=True), scores, np.float32(np.nan)))

    @overload
    def predict(self, joints: np.ndarray, top: int = 5) -> list[Prediction]: ...
    @overload
    def predict(self, joints: Sequence[np.ndarray], top: int = 5) -> list[list[Prediction]]: ...
    def predict(self, joints: np.ndarray | Sequence[np.ndarray], top: int = 5) -> Any:
        """The `top` most probable classes of a clip, the first one first; of several clips a list of such lists.

        ValueError where the joints are so large that the scores are no numbers.
        """
        if top < 1:
            raise ValueError(f"top = {top}; wanted 1 or more")
        one = hasattr(joints, "__array__")  # a tensor too
        scores = self.scores([np.asarray(joints)] if one else list(joints))
        if len(odd := np.flatnonzero(~np.isfinite(scores).all(axis=1))):
            raise ValueError(f"clip {odd[0]}: its scores are not finite; are its joints {self._unit}?")
        found = [self._top(row, top) for row in softmax(scores)]
        return found[0] if one else found

    @property
    def _unit(self) -> str:
        return "metres" if self.coordinates == "metres" else "shares of a picture, from -1 to 1"

    def _top(self, probabilities: np.ndarray, top: int) -> list[Prediction]:
        places = np.argsort(-probabilities, kind="stable")[:top]
        return [Prediction(self.classes[place], float(probabilities[place])) for place in places]

    def _checked(self, clip: np.ndarray, number: int) -> np.ndarray:
        """float32 [M, T, V, 3]."""
        found = np.asarray(clip)
        found = found[None] if found.ndim == 3 else found
        joints = len(self.layout.joints)
        if found.dtype.kind not in "fiu" or found.ndim != 4 or found.shape[2:] != (joints, 3) or not found.size:
            wanted = f"[bodies, frames, {joints}, 3] ({self.layout.name})"
            raise ValueError(
                f"clip {number}: {found.dtype} of shape {list(np.shape(clip))}, wanted numbers of {wanted}"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf, and is seen as such
            found = found.astype(np.float32)
        if not np.isfinite(found).all() or not found.any():
            raise ValueError(f"clip {number}: NaN or Inf among its joints, or all of them zero; mend or leave it out")
        found = found[: np.flatnonzero(found.any((1, 2, 3)))[-1] + 1]  # what fills up an array is no body
        if len(found) > self.slots:
            raise ValueError(f"clip {number}: {len(found)} bodies; the network has room for {self.slots}")
        return found

    @abstractmethod
    def _scores(self, clips: Sequence[np.ndarray]) -> np.ndarray: ...


class Predictor(Network):
    """A finished run; the scores of a batch are those of `mmcl evaluate` for it, bit for bit."""

    def __init__(self, run: Run, model: SkeletonClassifier, device: torch.device) -> None:
        config = run.config
        where = run.dataset, config.split, config.stream, config.backbone
        super().__init__(About(*where, run.classes, run.layout, run.slots, run.coordinates, run.selection))
        self._run, self._model, self._device = run, model.to(device), device

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> Predictor:
        """The network of a run's folder, on a device or where `mmcl evaluate` would compute.

        FileNotFoundError or ValueError where there is no run, or none that is finished and whole.
        """
        from ..loop.checkpoint import load_model
        from ..loop.device import find_device
        from ..run import read_run

        run = read_run(folder)
        return cls(run, load_model(folder, run), find_device(device))

    def _scores(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        from ..data.skeleton import body_of, pack
        from ..testing.scoring import score

        run, rows = self._run, np.arange(len(clips))
        packed = pack(self._as_data_set(clips)).to(self._device)
        body = body_of(run.layout, run.slots, run.body_rule)
        return score(self._model, packed, rows, body=body, config=run.config).numpy()

    def _as_data_set(self, clips: Sequence[np.ndarray]) -> Skeletons:
        """The clips as the skeleton cache would hold them, without labels and splits."""
        about = self.about
        return Skeletons(
            about.dataset,
            about.classes,
            about.layout,
            tuple(map(str, range(len(clips)))),
            np.zeros(len(clips), np.int64),
            np.array([len(clip) for clip in clips]),
            Ragged.of([clip.reshape(-1, *clip.shape[2:]) for clip in clips]),
            {},
            coordinates=about.coordinates,
        )


class OnnxPredictor(Network):
    """An exported network in ONNX Runtime on the CPU; torch is not loaded."""

    def __init__(self, about: About, run: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        super().__init__(about)
        self._run = run

    @classmethod
    def load(cls, path: Path) -> OnnxPredictor:
        """The network of a file that `mmcl export` wrote.

        FileNotFoundError where there is none; ValueError where it is another's, damaged or cut short, or onnxruntime
        is not installed.
        """
        session = open_session(path)
        about = _about(path, session.get_modelmeta().custom_metadata_map)
        _refuse_other_shapes(path, session, about)

        def run(joints: np.ndarray, lengths: np.ndarray) -> np.ndarray:
            try:
                return np.asarray(session.run(["scores"], {"joints": joints, "lengths": lengths})[0])
            except Exception as error:  # onnxruntime's own types
                raise RuntimeError(f"{path}: ONNX Runtime failed ({_short(error)})") from error

        return cls(about, run)

    def _scores(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([self._run(*self._filled(batch)) for batch in _in_batches(clips)])

    def _filled(self, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """joints float32 [N, M, T, V, 3], zero where a clip has no body or frame, and its frames int64 [N]."""
        lengths = np.array([clip.shape[1] for clip in clips], np.int64)
        joints = np.zeros((len(clips), self.slots, lengths.max(), *clips[0].shape[2:]), np.float32)
        for into, clip in zip(joints, clips, strict=True):
            into[: len(clip), : clip.shape[1]] = clip
        return joints, lengths


def _in_batches(clips: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Stretches of up to 64 clips that do not take much memory when all are as long as the longest."""
    batch, longest = list[np.ndarray](), 0
    for clip in clips:
        longest = max(longest, clip.shape[1])
        if batch and (len(batch) == BATCH or (len(batch) + 1) * longest > FRAMES):
            yield batch
            batch, longest = [], clip.shape[1]
        batch.append(clip)
    yield batch


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of scores [n, K]."""
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return exponents / exponents.sum(axis=1, keepdims=True)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """An exported file in ONNX Runtime on the CPU; ValueError where it is damaged or onnxruntime is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `mmcl export` writes one from a run")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"{path}: onnxruntime is not installed; pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is said by the error
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types, none of which is an OSError or a ValueError
        raise ValueError(f"{path}: damaged or cut short ({_short(error)}); {ANEW}") from error


def _refuse_other_shapes(path: Path, session: onnxruntime.InferenceSession, about: About) -> None:
    """ValueError where the graph is not what its metadata say; N and T are free, all other sizes are numbers."""
    sides = (*session.get_inputs(), *session.get_outputs())
    found = {side.name: [size for size in side.shape if not isinstance(size, str)] for side in sides}
    wanted = {"joints": [about.slots, len(about.layout.joints), 3], "lengths": [], "scores": [len(about.classes)]}
    for name, sizes in wanted.items():
        if found.get(name) != sizes:
            there = f"{name} of sizes {found[name]}" if name in found else f"no {name}"
            raise ValueError(f"{path}: damaged, its graph has {there}, its metadata say {sizes}; {ANEW}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:SAID]


def _about(path: Path, found: dict[str, str]) -> About:
    if found.get("mmcl_format") != FORMAT:
        there = f"format {found['mmcl_format']}, wanted {FORMAT}" if "mmcl_format" in found else "another program's"
        raise ValueError(f"{path}: no network that this version of `mmcl export` wrote ({there})")
    try:
        where = (found["dataset"], found["split"], found["stream"], found["backbone"])
        classes, layout = tuple(map(str, json.loads(found["classes"]))), Layout.from_dict(json.loads(found["layout"]))
        if found["coordinates"] not in COORDINATES:
            raise ValueError(f"coordinates {found['coordinates']}; known are {', '.join(COORDINATES)}")
        return About(*where, classes, layout, int(found["slots"]), found["coordinates"], found.get("selection", ""))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: damaged metadata ({error}); {ANEW}") from error
