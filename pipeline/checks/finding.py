"""What `mmcl data check` looks at, and what it finds; docs/checking.md says the same at more length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.skeletons import Skeletons
from .measures import Measures

ERROR, WARNING, NOTE = LEVELS = "error", "warning", "note"  # results are wrong; wants a look; good to know
LOOK = "look at them with `mmcl data show`"
LEAVE = "leave one of each two out"
AGAIN = "run its `mmcl extract-features` again"

MEANINGS: dict[str, tuple[str, str]] = {  # each finding: what it means, how to mend it
    "one class": ("`mmcl train` refuses it", "add files of other classes, or another split"),
    "absent classes": ("a network counts them all the same", "add their files, if you have them"),
    "alike classes": ("one class twice, and a network is to tell the two apart", "name it in one form; prepare again"),
    "small classes": ("too few to learn from, and to measure", "record more of them, or leave them out"),
    "uneven classes": ("top-1 speaks of the large classes", "read mean class accuracy beside it"),
    "empty sides": ("training or evaluation will refuse it", "mend the split, or add its files"),
    "classes never trained": ("no such clip can be recognised", "train on some of their clips, or leave them out"),
    "classes never tested": ("nothing tells how well they are recognised", "test on some of their clips"),
    "unused clips": ("nothing trains or tests on them", "nothing, if it is meant"),
    "shared people": ("the result says nothing of people the network has not seen", "give each person one side"),
    "alike names": ("one clip twice, or a video that is found for the wrong one", "name files in one form"),
    "damaged": ("a disk or a copy went wrong", "prepare again"),
    "not finite": (
        "one NaN makes every weight of a network NaN",
        "mend the files, from the frames around; prepare again",
    ),
    "nobody": ("the network sees zeros, and learns a label for them", "leave them out"),
    "zero bodies": ("somebody who is never there counts as a body", "leave such bodies out; prepare again"),
    "motionless": ("no recording of a person is so still", f"{LOOK}: one frame repeated, or a lost person"),
    "gaps": ("the network sees zeros most of the time", "cut such frames away; prepare again"),
    "one frame": ("a pose without motion", "look at the files, or leave them out"),
    "short clips": ("hardly a motion", LOOK),
    "long clips": ("of a long clip most frames are skipped", "cut them to the action"),
    "leaks": ("a result on clips that were trained on", f"{LEAVE}; of a published split keep both, and say so"),
    "two labels": ("one of the labels is wrong", "look at the files, and leave one out"),
    "twice": ("such a clip counts twice", LEAVE),
    "joint order": ("bones join what does not belong together", "find the order in your files, say it by --layout"),
    "unsteady bones": ("joints are not where the person's are", f"{LOOK}: a lost person, noise, damage"),
    "odd proportions": ("joints in another order than in other clips, or nobody's", LOOK),
    "lopsided": ("joints of one side are lost, or taken for others", LOOK),
    "upside down": ("a damaged file, or someone lying", LOOK),
    "turned axes": ("person boxes, pictures and networks trained on other data expect people upright", "turn them"),
    "units": ("networks trained on other data can't use them", "scale them, and prepare again"),
    "heights": ("damage, or a file in another unit", LOOK),
    "missing features": ("training refuses it", f"{AGAIN}, it resumes"),
    "unfinished caches": ("training refuses it", "run `mmcl cache merge`"),
    "failed features": (
        "these clips train on the classification loss only, with --allow-missing",
        f"mend their videos and {AGAIN} with --retry-failed",
    ),
    "other clips": ("nothing reads them", "nothing"),
    "other data set": ("its features are of other clips", "move its folder away"),
    "unreadable caches": ("nothing can be trained against it", f"move its folder away, and {AGAIN}"),
    "damaged features": ("a disk or a copy went wrong", "see `mmcl cache verify`"),
    "features not finite": ("one NaN makes every weight of a network NaN", f"{AGAIN} with --retry-failed"),
    "constant features": ("the model does not see the images", "look at its preprocessing and its prompt"),
    "cut videos": (
        "the end of the video is missing; person images show only its first part",
        f"get these videos anew, move its folder out of the data set, and {AGAIN} with --videos: all person images "
        "are made anew, and the features of those that changed",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: `what` was found, in which `clips`; none where it is not of clips.

    `check` is its name in MEANINGS; `advice` is how to mend it, where more is known than stands there. `examples` are
    lines of which some are shown, where the clips' names alone say too little. `twins` names for each of the clips one
    that it is the same as, where that is the finding.
    """

    check: str
    level: str
    what: str
    clips: tuple[str, ...] = ()
    advice: str = ""
    examples: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def means(self) -> str:
        return MEANINGS[self.check][0]

    @property
    def mend(self) -> str:
        return self.advice or MEANINGS[self.check][1]


@dataclass(frozen=True)
class Inspected:
    """A data set's folder, its clips, and what their joints measure."""

    folder: Path
    skeletons: Skeletons
    measures: Measures

    def of_clips(self, check: str, level: str, rows: np.ndarray, what: str) -> list[Finding]:
        """The finding of the clips of these rows; nothing where there are none."""
        if not len(rows):
            return []
        clips = tuple(self.skeletons.names[row] for row in np.unique(rows).tolist())
        return [Finding(check, level, f"{many(len(clips), 'clip')} {what}", clips)]


def many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 'es' if thing.endswith('s') else 's'}"
