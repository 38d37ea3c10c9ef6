"""What stands side by side: runs that were tested, and score files, on the same clips in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..matrix.cells import ABLATIONS, Ablation
from ..run import Run
from .evaluate import Evaluation
from .metrics import Metrics, measure
from .notes import sure_note
from .others import scores_like
from .scores import About, ScoreFile, Scores, aligned, scores_alone

UNKNOWN = "not known"


@dataclass(frozen=True)
class Member:
    """A run or a score file as far as it is known before anything is scored; `run` is None for a score file."""

    title: str
    about: About
    run: Run | None

    @property
    def selection(self) -> str:
        """How its epoch was chosen, in words for every output."""
        return self.about.selection or UNKNOWN

    @property
    def on_test(self) -> bool:
        """Whether what was kept was chosen on the clips it is tested on; of a score file as far as its words say."""
        return self.about.on_test or (self.run is not None and self.run.config.select_on_test)

    @property
    def started(self) -> bool:
        """Whether its network started from other weights, as far as is known."""
        return self.run is not None and self.run.start is not None

    @property
    def kind(self) -> tuple[str, str]:
        """Backbone and stream."""
        return self.about.backbone, self.about.stream

    @property
    def taught(self) -> str:
        """What taught it, as `mmcl ablate` names it: none, FAM, both-shuffled ...; empty for a score file."""
        if self.run is None:
            return ""
        rgb, text = (bool(self.run.teachers(kind)) for kind in ("rgb", "text"))
        wanted = Ablation(rgb, text, self.run.config.features if rgb or text else "real")
        return next(name for name, ablation in ABLATIONS.items() if ablation == wanted)


@dataclass(frozen=True)
class Entry(Member):
    """The same with its scores of the clips that all entries have, and what they are worth.

    `path` is the run's folder or the score file.
    """

    path: Path
    scores: Scores
    metrics: Metrics
    notes: tuple[str, ...]


Files = Mapping[Path, ScoreFile]


def member_of_run(title: str, run: Run) -> Member:
    config = run.config
    about = About(run.selection, run.dataset, config.split, config.backbone, config.stream, config.seed)
    return Member(title, about, run)


def entries_of(
    results: Sequence[Evaluation | Path],
    files: Files,
    titles: Mapping[Path, str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Entry, ...]:
    """Entries on the clips, classes and order of the first run, or of the first file that has labels.

    `results` are evaluations, and the paths of score files, whose content `files` has. Raises ValueError with the entry
    that does not fit.
    """
    like, split = _reference(results, files)
    entries = list[Entry]()
    for result in results:
        if isinstance(result, Path):
            entries.append(_of_file(result, files[result], like, split, titles))
        else:
            entries.append(_of_run(result, like, titles))
        progress(len(entries), len(results))
    return tuple(entries)


def _reference(results: Sequence[Evaluation | Path], files: Files) -> tuple[Scores, str]:
    """The scores whose clips and classes are the others' measure, and their split."""
    for result in results:
        if isinstance(result, Evaluation):
            return result.scores, result.run.config.split
    labelled = [path for path in files if files[path].labels is not None]
    first = labelled[0] if labelled else next(iter(files))
    try:
        return scores_alone(files[first]), files[first].about.split
    except ValueError as error:
        raise ValueError(f"{first}: {error}") from error


def _of_run(result: Evaluation, like: Scores, titles: Mapping[Path, str]) -> Entry:
    folder = result.folder.parent
    try:
        scores = aligned(result.scores, like)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    metrics = result.metrics if result.scores.classes == like.classes else measure(scores.values, scores.labels)
    return Entry(titles[folder], result.about, result.run, folder, scores, metrics, tuple(result.notes))


def _of_file(path: Path, found: ScoreFile, like: Scores, split: str, titles: Mapping[Path, str]) -> Entry:
    try:
        scores, notes = scores_like(found, like, split)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    metrics = measure(scores.values, scores.labels)
    said = (f"epoch: {found.about.selection or UNKNOWN}", *notes, *sure_note(metrics))
    return Entry(titles[path], found.about, None, path, scores, metrics, said)
