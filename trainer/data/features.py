"""What teaches: cached features of the training clips, read from the caches' memory maps as they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...cache.mapped import Column, Ragged
from ...cache.recipe import Recipe
from ...cache.skeletons import Skeletons
from ...cache.store import Rows, open_cache
from ...cache.table import checksums, stored_checksums
from ...cache.words import few
from ..config import Config
from .moments import Moments

BLOCK = 256  # rows checked at a time
IDS = 3  # token ids of an answer that the released code looks at
MEND = "move the folder away and extract again; `mmcl cache verify` names all such rows"
RETRY = "mend the videos and extract with --retry-failed, or train without them: --allow-missing"

OnRows = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True)
class Source:
    """The columns of one cache that are used, [rows, D] each and memory-mapped, and the row of each clip in them.

    `rows` [clips] is -1 for a clip that is not trained on. `digest` changes with any row that is: rows may be made anew
    under one key. `constant` counts the dimensions that are the same in all clips.
    """

    recipe: Recipe
    columns: dict[str, np.ndarray]
    rows: np.ndarray
    digest: str = ""
    constant: int = 0

    @property
    def dim(self) -> int:
        return sum(column.shape[1] for column in self.columns.values())


@dataclass(frozen=True)
class Features:
    """One modality's features of all clips of a data set, in the skeleton cache's order; several caches end to end.

    `present` [clips] is False where a cache has a failed row, and where a clip is not trained on. `mean` and
    `deviation` [dim] are those of the clips that are present, in float64; the deviation of a constant is 0. Nothing of
    the caches' values is held: every process reads them from the same pages.
    """

    parts: tuple[Source, ...]
    present: np.ndarray
    missing: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray
    blank: bool = False  # the control: every clip's feature is the mean

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(part.recipe for part in self.parts)

    @property
    def digest(self) -> str:
        return "-".join(part.digest for part in self.parts)

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @property
    def constant(self) -> int:
        """How many dimensions are the same in all clips, and so become 0."""
        return sum(part.constant for part in self.parts)

    @property
    def raw(self) -> bool:
        """Whether they go in as they are, not standardised: the token ids of the released code."""
        return any("answer_ids" in part.columns for part in self.parts)

    def gather(self, rows: np.ndarray) -> Tensor:
        """The features of some clips, float32 [n, dim] on the CPU; zeros where there are none."""
        found, there = np.zeros((len(rows), self.dim), np.float32), self.present[rows]
        if self.blank:
            found[there] = self.mean
        else:
            taken = [values_of(part.columns, part.rows[rows[there]]) for part in self.parts]
            found[there] = np.concatenate(taken, axis=1)
        return torch.from_numpy(found)


def columns_of(kind: str, config: Config) -> tuple[str, ...]:
    """The columns that FAM ("rgb") or FRM ("text") is given, of those that a cache has.

    `answer_ids` is there to repeat the released code, which feeds FRM three raw token ids: [BOS], the answer's word,
    [SEP]. Do not use it for anything else: ids have no metric (a neighbour in the vocabulary is no neighbour in
    meaning), the first and the last are the same for every clip, and numbers in the thousands saturate the gate at
    initialisation, so that it is deaf to the clip and gets no gradient.
    """
    if kind == "rgb":
        return ("logits",) if config.align_input == "logits" else ("feature",)
    if "answer_ids" in config.refine_features and len(config.refine_features) > 1:
        raise ValueError(
            f"refine_features = {list(config.refine_features)}: answer_ids, the released code's token ids, stand alone"
        )
    return config.refine_features


def load_features(
    folders: Sequence[Path], kind: str, skeletons: Skeletons, rows: np.ndarray, *, config: Config,
    progress: OnRows = lambda done, total: None,
) -> Features:  # fmt: skip
    """The features of the clips in `rows`, joined by name, after one pass over them: checked, measured, not kept.

    Raises ValueError for another data set's cache, for a damaged row, for a name without a row, for a value that is
    not finite, for features that are the same for all clips, and, unless `config.allow_missing`, for failed rows; it
    names the clips.
    """
    columns = columns_of(kind, config)
    names = [skeletons.names[row] for row in rows]
    caches = [_opened(folder, skeletons, names, allow_missing=config.allow_missing) for folder in folders]
    used = [used_columns(cache, columns, kind) for cache in caches]
    failed = set[str]().union(*(cache.failures for cache in caches))
    present = np.array([name not in failed for name in names])
    if not present.any():
        raise ValueError(f"{folders[0]}: not one training clip has features; say --{kind} none")
    parts, moments = list[Source](), list[Moments]()
    for cache, own in zip(caches, used, strict=True):
        before, total = len(rows) * len(parts), len(rows) * len(caches)
        at = np.array([cache.row_of[name] for name in names])
        found, digest = _read(cache, own, at, present, lambda done, b=before, t=total: progress(b + done, t))
        _refuse_constant(cache, kind, found, config)
        dealt = _scatter(at[_dealt(present, config)], rows, len(skeletons.names), fill=-1)
        parts.append(Source(cache.recipe, own, dealt, digest, int((found.deviation == 0).sum())))
        moments.append(found)
    return Features(
        tuple(parts),
        _scatter(present, rows, len(skeletons.names), fill=False),
        tuple(name for name in names if name in failed),
        np.concatenate([found.mean for found in moments]),
        np.concatenate([found.deviation for found in moments]),
        config.features == "constant",
    )


def values_of(columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Some rows of all columns side by side, float32 [n, D]; of token ids the first three, 0 behind the end."""
    with np.errstate(over="ignore"):  # what float32 cannot hold is found not to be finite
        taken = [_float32(column[rows]) for column in columns.values()]
    return np.concatenate([found.clip(min=0) if "answer_ids" in columns else found for found in taken], axis=1)


def _float32(found: np.ndarray) -> np.ndarray:
    if found.dtype == np.float16:  # numpy casts halves at a seventh of torch's speed
        return torch.from_numpy(found).float().numpy()
    return found.astype(np.float32)


def _opened(folder: Path, skeletons: Skeletons, names: Sequence[str], *, allow_missing: bool) -> Rows:
    """A cache of this data set with a row for each name."""
    cache = open_cache(folder)
    if cache.recipe.dataset != skeletons.dataset:
        raise ValueError(f"{folder}: made for {cache.recipe.dataset}, these skeletons are {skeletons.dataset}")
    _refuse(folder, [name for name in names if name not in cache.row_of], "no row for", "extract again: it adds them")
    if not allow_missing:
        _refuse(folder, [name for name in names if name in cache.failures], "failed rows for", RETRY)
    return cache


def used_columns(cache: Rows, wanted: Sequence[str], kind: str) -> dict[str, np.ndarray]:
    """Those of the wanted columns that the cache has, as views."""
    found = {name: cache.array(name) for name in wanted if name in cache.columns}
    if not found and wanted == ("logits",):
        raise ValueError(
            f"{cache.folder}: {cache.recipe.model} gave no class logits, only classifiers do (such as "
            "microsoft/resnet-34); --set align_input=pooled"
        )
    if not found:
        raise ValueError(f"{cache.folder}: none of the columns {', '.join(wanted)}; is it a {kind} cache?")
    for name, column in found.items():
        if column.ndim != 2 or column.dtype.kind not in "fiu":
            raise ValueError(f"{cache.folder}: column {name} is {column.dtype} {list(column.shape)}, wanted [rows, D]")
    return {name: column[:, :IDS] if name == "answer_ids" else column for name, column in found.items()}


def _read(
    cache: Rows, columns: dict[str, np.ndarray], at: np.ndarray, present: np.ndarray, progress: Callable[[int], None]
) -> tuple[Moments, str]:
    """The moments of the clips that are present, and the digest of all; `at` is the row of each clip."""
    stored = stored_checksums(cache.folder / "cache.h5")[at]
    moments = Moments(sum(column.shape[1] for column in columns.values()))
    damaged, strange = list[int](), list[int]()
    in_file = np.argsort(at)
    for start in range(0, len(at), BLOCK):
        some = in_file[start : start + BLOCK]
        whole = checksums({name: _rows(column, at[some]) for name, column in cache.columns.items()}) == stored[some]
        damaged += some[~whole].tolist()
        good = some[whole & present[some]]
        values = values_of(columns, at[good])
        finite = np.isfinite(values).all(1)
        strange += good[~finite].tolist()
        moments.add(values[finite])
        progress(start + len(some))
    _refuse(cache.folder, _names(cache, at, damaged), "damaged rows for", MEND)
    mend = "the encoder's dtype may be too small; extract again"
    _refuse(cache.folder, _names(cache, at, strange), "NaN or Inf in", mend)
    return moments, hashlib.sha256(stored.tobytes()).hexdigest()[:8]


def _refuse_constant(cache: Rows, kind: str, found: Moments, config: Config) -> None:
    if not found.deviation.any() and config.features != "constant":
        what = f"the features of all {found.count} training clips are the same, they carry nothing"
        raise ValueError(f"{cache.folder}: {what}; say --{kind} none, or extract with another model or prompt")


def _rows(column: Column, rows: np.ndarray) -> Column:
    return Ragged.of([column[row] for row in rows]) if isinstance(column, Ragged) else column[rows]


def _names(cache: Rows, at: np.ndarray, clips: Sequence[int]) -> list[str]:
    return [cache.names[at[clip]] for clip in sorted(clips)]


def _dealt(present: np.ndarray, config: Config) -> np.ndarray:
    """Whose features each training clip gets: its own, or by the seed those of another clip that has some."""
    dealt = np.arange(len(present))
    if config.features == "shuffled":
        order = np.random.default_rng(config.seed).permutation(np.flatnonzero(present))
        dealt[order] = np.roll(order, 1)  # one round through all clips: none keeps its own
    return dealt


def _scatter(found: np.ndarray, rows: np.ndarray, clips: int, fill: int) -> np.ndarray:
    everywhere = np.full((clips, *found.shape[1:]), fill, found.dtype)
    everywhere[rows] = found
    return everywhere


def _refuse(folder: Path, names: Sequence[str], what: str, mend: str) -> None:
    if names:
        raise ValueError(f"{folder}: {what} {len(names)} training clips ({few(names, 8)}); {mend}")
