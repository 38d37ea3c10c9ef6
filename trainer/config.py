"""One frozen config: a TOML file and `--set` fill it, unknown keys are refused with the nearest name."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, get_args, get_type_hints

STREAMS = ("joint", "bone", "joint-motion", "bone-motion")
TEXT_FEATURES = ("prompt_feature", "answer_feature", "probabilities", "answer_ids")
CHOICES = {
    "stream": STREAMS,
    "sampling": ("crop", "random"),
    "schedule": ("step", "cosine"),
    "precision": ("fp32", "bf16"),
    "compile": ("off", "default", "reduce-overhead"),
    "align_input": ("pooled", "logits"),
    "features": ("real", "constant", "shuffled"),
}
SHIPPED = Path(__file__).resolve().parent / "configs"
UNKNOWN = {"metres": "default.toml", "image": "image.toml"}  # for data without a config of its own, by coordinates


@dataclass(frozen=True)
class Config:
    """Everything that decides a training run, beside its data and its feature caches."""

    split: str = "xsub"  # a split that the skeleton cache names
    stream: str = "joint"  # what the network sees
    backbone: str = "ctrgcn"  # the skeleton network, by its name in `mmcl models backbones`
    width: int = 64  # channels of the first blocks; 64 in the papers

    sampling: str = "crop"  # crop: a stretch of the clip resized to the window; random: frames drawn from all of it
    window: int = 64  # frames the network sees
    crop: float = 0.5  # training: shortest stretch, as a share of the clip
    crop_frames: int = 64  # training: shortest stretch, in frames (at most the clip)
    test_crop: float = 0.95  # evaluation: centre stretch
    rotation: tuple[float, float, float] = (17.2, 17.2, 17.2)  # largest random rotation about x, y, z; degrees
    centre: bool = True  # move the clip so that the middle spine of its first frame is the origin
    minmax: bool = False  # scale each axis of the clip to [-1, 1]

    batch: int = 64  # clips a step, over all processes
    epochs: int = 110  # passes over the data, each of `repeat` passes over the training clips
    repeat: int = 1  # passes over the training clips an epoch
    lr: float = 0.1  # learning rate of SGD, after the warm-up
    warmup: int = 5  # epochs of linear warm-up
    schedule: str = "step"  # step: a tenth at each milestone; cosine: down to 0 at the end
    milestones: tuple[int, ...] = (90, 100)  # epochs from which the rate is a tenth, a hundredth, ...
    lr_batch: int = 0  # the batch that lr was chosen for: it is scaled by batch / lr_batch; 0 leaves it as it is
    momentum: float = 0.9  # Nesterov's
    weight_decay: float = 4e-4  # of all weights, but for a temperature that is learned
    clip_grad: float = 0.0  # largest norm of the gradient; 0: not clipped
    seed: int = 1  # what the first weights, the order of clips and their augmentation are drawn from

    precision: str = "fp32"  # bf16: the network in bfloat16, statistics, softmax and losses in float32
    compile: str = "off"  # a mode of torch.compile: default, reduce-overhead

    loss: str = "cross-entropy"  # of the classification scores; smoothed: a tenth of the target to all classes alike
    align_weight: float = 0.1  # lambda of L_c, feature alignment
    refine_weight: float = 0.2  # lambda of L_R, feature refinement
    temperature: float = 0.4  # tau of L_c
    temperature_learned: bool = False  # tau starts there and is learned
    align_input: str = "pooled"  # what FAM sees of the RGB network: pooled features, or its class logits
    align_project: bool = False  # a projection of the skeleton side too; the paper has none
    align_same_class: bool = True  # clips of the same class are negatives, as in the paper
    # what FRM sees of the LLM; answer_ids are the released code's token ids
    refine_features: tuple[str, ...] = ("prompt_feature", "answer_feature", "probabilities")
    features: str = "real"  # the controls: constant (every clip the mean), shuffled (dealt to other training clips)

    # training subjects held out ("3,7"), or a share of them ("0.2"); the best epoch on them is kept
    validation: str = ""
    select_on_test: bool = False  # keep the best epoch on the test split; labelled in every output
    allow_missing: bool = False  # train clips without features on the classification loss only

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        for name, value in vars(self).items():
            _finite(name, value)
        for name in ("window", "crop_frames", "batch", "epochs", "repeat", "width"):
            _at_least(name, getattr(self, name), 1)
        for name in ("lr", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum}: a share in [0, 1)")
        for name in ("warmup", "seed", "lr_batch", "clip_grad", "align_weight", "refine_weight", "weight_decay"):
            _at_least(name, getattr(self, name), 0)
        for name in ("crop", "test_crop"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: a share in (0, 1]")
        if len(self.rotation) != 3:
            raise ValueError(f"rotation = {list(self.rotation)}: three angles in degrees, about x, y and z")
        if not self.refine_features or len(set(self.refine_features)) < len(self.refine_features):
            raise ValueError(f"refine_features = {list(self.refine_features)}: one of each kind, at least one")
        for column in self.refine_features:
            _one_of("refine_features", column, TEXT_FEATURES)
        if self.validation and self.select_on_test:
            raise ValueError("validation and select_on_test: one split chooses the epoch, not two")


def read_config(path: Path) -> dict[str, Any]:
    """The entries of a TOML file, checked against Config; ValueError names the file and what is wrong in it."""
    try:
        return _checked(tomllib.loads(path.read_text()), str(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such config; shipped are {', '.join(shipped_names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from error


def parse_setting(text: str) -> dict[str, Any]:
    """`key=value` of --set; the value as TOML writes it, a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: wanted key=value, such as epochs=20")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return _checked({key.strip(): parsed}, f"--set {text}")


def shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def shipped_config(dataset: str, coordinates: str) -> Path:
    """The shipped config of a data set, or the one for data that we do not know, in metres or of the image."""
    path, unknown = SHIPPED / f"{dataset}.toml", SHIPPED / UNKNOWN[coordinates]
    known = path.is_file() and coordinates == "metres" and path.name not in UNKNOWN.values()
    return path if known else unknown


def named_config(path: Path) -> Path:
    """A config's file: the path as it is, or the shipped one of that name."""
    return SHIPPED / f"{path}.toml" if str(path) in shipped_names() and not path.is_file() else path


def make_config(path: Path, settings: Sequence[Mapping[str, Any]], splits: Mapping[str, int]) -> Config:
    """The config of a file with `settings` on top; `splits` holds the training clips of each split of the data.

    For data that we do not know the split is the data's first, and the batch at most an eighth of its training clips:
    never a batch norm over half of a small data set, always eight steps an epoch.
    """
    entries = read_config(path)
    asked: dict[str, Any] = {}
    for setting in settings:
        asked |= setting
    if path.resolve() in [SHIPPED / name for name in UNKNOWN.values()]:
        split = entries["split"] = asked.get("split", next(iter(splits)))
        entries["batch"] = max(2, min(entries.get("batch", Config.batch), splits.get(split, 0) // 8))
    return Config(**(entries | asked))


def as_dict(config: Config) -> dict[str, Any]:
    """JSON-able, in the order of the fields."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_dict(found: Mapping[str, Any], where: str) -> Config:
    return Config(**_checked(found, where))


def _checked(entries: Mapping[str, Any], where: str) -> dict[str, Any]:
    types = get_type_hints(Config)
    checked = {}
    for name, value in entries.items():
        if name not in types:
            near = get_close_matches(name, types, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(types)}"
            raise ValueError(f"{where}: no such key {name!r}{hint}")
        checked[name] = _as_type(name, value, types[name], where)
    return checked


def _as_type(name: str, value: Any, wanted: Any, where: str) -> Any:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted in (int, float, str, bool):
        if type(value) is wanted:
            return value
        if wanted is str and type(value) in (int, float):  # --set validation=0.2
            return str(value)
        raise ValueError(f"{where}: {name} = {value!r}, wanted {wanted.__name__}")
    item = get_args(wanted)[0]
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: {name} = {value!r}, wanted a list of {item.__name__}")
    return tuple(_as_type(f"{name}[{i}]", v, item, where) for i, v in enumerate(value))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: allowed are {', '.join(allowed)}")


def _finite(name: str, value: Any) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, float) and not isfinite(number) for number in numbers):
        raise ValueError(f"{name} = {value}: must be finite")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{name} = {value}: must be at least {least}")
