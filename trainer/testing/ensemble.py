"""Ensembles: the weighted sum of several networks' scores of a clip, as CTR-GCN's ensemble adds them.

What is added is S_M as the networks give it, before any softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from ..config import STREAMS
from .entries import Entry, Member
from .fitting import fitted_weights, refuse_none_held_out
from .metrics import Metrics, measure
from .paired import Paired, mcnemar, right
from .scores import About, Scores

FIXED = {"joint": 0.6, "bone": 0.6, "joint-motion": 0.4, "bone-motion": 0.4}
BY_STREAM = "fixed (CTR-GCN's .6/.6/.4/.4 by stream)"
ON_TEST = "FITTED ON THE TEST SET"
STARTED = "which members may have seen in what they start from"
CHOICES = "fixed, equal, validation, or a weight a member such as 0.6,0.6,0.4,0.4"

HeldOut = Callable[[Sequence[Entry]], tuple[list[Scores], str]]  # scores of the same held-out clips, and whose they are


One = TypeVar("One", bound=Member)


class Choice(NamedTuple):
    """Weights of the members in their order, and how they were chosen, in words for every output."""

    weights: tuple[float, ...]
    chosen: str


@dataclass(frozen=True)
class Ensemble:
    """Members by title, their weights, how these were chosen, and the scores and the metrics of the sum.

    `single` are the members' own top-1, `versus_first` is the sum against its first member on the same clips.
    `taught` and `seed` are the members', where these have them in common.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    chosen: str
    scores: Scores
    metrics: Metrics
    single: tuple[float, ...]
    versus_first: Paired
    about: About
    taught: str = ""

    @property
    def seed(self) -> int | None:
        return self.about.seed

    @property
    def on_test(self) -> bool:
        """Whether its weights, or the epoch of a member, were chosen on the clips it is tested on."""
        return self.about.on_test

    @property
    def title(self) -> str:
        """Such as `ensemble of 4, both, seed 1`."""
        seed = "" if self.seed is None else f"seed {self.seed}"
        return ", ".join(part for part in (f"ensemble of {len(self.members)}", self.taught, seed) if part)

    @property
    def selection(self) -> str:
        """How the weights and the members' epochs were chosen, in words for every output."""
        return self.about.selection


def refuse_choice(asked: str, entries: int) -> None:
    """ValueError for what --ensemble can't mean, as far as its words and the number of entries say."""
    if entries < 2:
        raise ValueError("an ensemble of one entry is none; give two or more, or a folder of several runs")
    if asked not in ("fixed", "equal", "validation", ON_TEST):
        parse_weights(asked)


def refuse_members(asked: str, members: Sequence[Member]) -> None:
    """ValueError for what can't be added so, said before anything is scored."""
    for group in groups_of(members):
        if asked == "fixed":
            _ = [_by_stream(member) for member in group]
        elif asked == "validation":
            refuse_none_held_out(group)
        elif asked not in ("equal", ON_TEST):
            _given(asked, group)


def ensembles_of(
    entries: Sequence[Entry],
    asked: str,
    held_out: HeldOut,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Ensemble, ...]:
    """One ensemble of all entries, or one of each seed's (and of each ablation's).

    `asked` is what --ensemble says, or ON_TEST. ValueError where there are no two members, the weights don't fit, or
    the seeds don't have the same networks.
    """
    groups, found = groups_of(entries), list[Ensemble]()
    several = len({_common([member.taught for member in members]) for members in groups}) > 1
    for members in groups:
        found.append(_ensemble(members, _choice(asked, members, held_out), several=several))
        progress(len(found), len(groups))
    return tuple(found)


def groups_of(entries: Sequence[One]) -> list[list[One]]:
    """The members of each ensemble: all, where no network and stream is there twice; else those of a seed.

    Members of every seed stand in the order of the first one's, whatever that of the entries: weights go by place.
    """
    refuse_choice("equal", len(entries))
    known = [entry.kind for entry in entries if entry.about.stream]
    if len(set(known)) == len(known):
        return [list(entries)]
    groups = dict[tuple[str, int | None], list[One]]()
    for entry in entries:
        groups.setdefault((entry.taught, entry.about.seed), []).append(entry)
    order = [entry.kind for entry in next(iter(groups.values()))]
    wanted = sorted(order)
    for (taught, seed), members in groups.items():
        found = sorted(entry.kind for entry in members)
        if twice := [kind for kind in sorted(set(found)) if found.count(kind) > 1]:
            titles = ", ".join(entry.title for entry in members if entry.kind == twice[0])
            raise ValueError(f"--ensemble: {_kinds(twice[:1])} is there more than once ({titles}); leave one out")
        if found != wanted:
            here, first = _kinds(found), _kinds(wanted)
            named = f"{taught or 'score files'}, {'no seed' if seed is None else f'seed {seed}'}"
            raise ValueError(f"--ensemble: {named}: {here}; the first: {first}; wanted each once in every seed")
    if len(wanted) < 2:
        raise ValueError(f"--ensemble: every seed has {_kinds(wanted)} alone; give several streams or networks")
    return [sorted(members, key=lambda member: order.index(member.kind)) for members in groups.values()]


def _kinds(kinds: Sequence[tuple[str, str]]) -> str:
    return " + ".join(" ".join(filter(None, kind)) or "a network of unknown stream" for kind in kinds)


def _choice(asked: str, members: Sequence[Entry], held_out: HeldOut) -> Choice:
    if asked == "fixed":
        return Choice(tuple(_by_stream(entry) for entry in members), BY_STREAM)
    if asked == "equal":
        return Choice((1.0,) * len(members), "equal")
    if asked == ON_TEST:
        weights = fitted_weights([entry.scores.values for entry in members], members[0].scores.labels)
        return Choice(weights, ON_TEST)
    if asked == "validation":
        scores, whose = held_out(members)
        weights = fitted_weights([one.values for one in scores], scores[0].labels)
        seen = f", {STARTED}" if any(member.started for member in members) else ""
        return Choice(weights, f"fitted on held-out {whose} of the training split{seen}")
    return Choice(_given(asked, members), "given on the command line")


def _given(asked: str, members: Sequence[Member]) -> tuple[float, ...]:
    """The weights that are asked for; ValueError where there is not one a member."""
    if len(weights := parse_weights(asked)) != len(members):
        names = ", ".join(member.title for member in members)
        raise ValueError(f"--ensemble {asked}: {len(weights)} weights for {len(members)} members ({names})")
    return weights


def parse_weights(asked: str) -> tuple[float, ...]:
    """The numbers between commas; ValueError where one is none or negative, or all are zero."""
    try:
        weights = tuple(float(part) for part in asked.split(","))
    except ValueError:
        raise ValueError(f"--ensemble {asked}: wanted {CHOICES}") from None
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(f"--ensemble {asked}: weights are 0 or more, and one at least is more")
    return weights


def _by_stream(entry: Member) -> float:
    if entry.about.stream in FIXED:
        return FIXED[entry.about.stream]
    found = f"stream {entry.about.stream}" if entry.about.stream else "its file names no stream"
    known = f"fixed weights are those of {', '.join(STREAMS)}"
    raise ValueError(f"{entry.title}: {found}; {known}: say --ensemble equal, or a weight a member")


def _ensemble(members: Sequence[Entry], choice: Choice, *, several: bool) -> Ensemble:
    first, weights = members[0].scores, np.array(choice.weights)
    summed = np.tensordot(weights, np.stack([entry.scores.values for entry in members]), 1)
    scores = replace(first, values=summed.astype(np.float32))
    hits = [right(one.values, first.labels) for one in (first, scores)]
    about = _about(members, choice)
    return Ensemble(
        members=tuple(entry.title for entry in members),
        weights=choice.weights,
        chosen=choice.chosen,
        scores=scores,
        metrics=measure(scores.values, scores.labels),
        single=tuple(entry.metrics.top1 for entry in members),
        versus_first=mcnemar(*hits, chosen=about.on_test),
        about=about,
        taught=_common([entry.taught for entry in members]) if several else "",
    )


def _about(members: Sequence[Entry], choice: Choice) -> About:
    """What is said of the sum: what its members have in common, and how epochs and weights were chosen."""
    abouts = [entry.about for entry in members]
    epochs = "; ".join(dict.fromkeys(entry.selection for entry in members))
    seeds = {about.seed for about in abouts}
    return About(
        selection=f"weights {choice.chosen}; {epochs}",
        dataset=_common([about.dataset for about in abouts]),
        split=_common([about.split for about in abouts]),
        backbone=_common([about.backbone for about in abouts]),
        stream="ensemble",
        seed=seeds.pop() if len(seeds) == 1 else None,
    )


def _common(values: Sequence[str]) -> str:
    return "+".join(dict.fromkeys(filter(None, values)))
