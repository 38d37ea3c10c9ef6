"""What an extraction is going to do: the caches that are wanted, what is left of each, and the passes that make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ...cache.skeletons import Skeletons, read_skeletons
from ...cache.store import find_caches
from ..encoders.encoder import ENCODERS, Encoder
from ..encoders.prompts import Prompt
from ..stop import Stop
from ..videos.decoder import Decoders
from ..videos.find_videos import Videos, find_videos
from ..videos.person import SkeletonBoxes, WholeFrame, image_layout
from ..videos.video_pattern import find_by_pattern
from .clock import Clock
from .extract import Pass, Progress
from .features import FeatureTarget, feature_recipe
from .images import ImageTarget, PersonImages, VideoSource, clips_a_batch, image_recipe, refuse_other_videos
from .ledger import Clips, Ledger
from .shard import WHOLE, Shard, device_name
from .wanted import find_boxes, known_images, known_person

Bars = Callable[[str], Progress]


@dataclass(frozen=True)
class Request:
    """What the command was asked for. `videos` and `person` may be left out where person images are there already.

    `video_pattern` says where under `videos` each sample's is; without one they are found by the samples' names.
    """

    data: Path
    videos: Path | None
    person: str | None
    rgb: str | None
    llm: str | None
    prompts: Sequence[Prompt]
    batch: int
    device: str
    shard: Shard = WHOLE
    retry_failed: bool = False
    accept_versions: bool = False
    video_pattern: str | None = None


@dataclass
class Plan:
    """The passes, and every cache that is made or looked at, person images first."""

    clips: Clips
    clock: Clock
    stop: Stop
    decoders: Decoders
    passes: list[Pass] = field(default_factory=list)
    images: dict[str, PersonImages] = field(default_factory=dict)  # by layout
    ledgers: list[Ledger] = field(default_factory=list)
    videos: VideoSource | None = None


def plan(request: Request, decoders: Decoders, bars: Bars, stop: Stop) -> Plan:
    """Find out what is there and what is left; ValueError or FileNotFoundError for what can't begin.

    No weights are loaded and no video is opened yet.
    """
    skeletons = read_skeletons(request.data / "skeletons.h5")
    clips = Clips(
        request.data,
        skeletons.dataset,
        skeletons.names,
        request.shard,
        retry=request.retry_failed,
        accept_versions=request.accept_versions,
    )
    if request.video_pattern is not None and request.videos is None:
        raise ValueError("--video-pattern says where the videos are in a folder; give that with --videos")
    if request.videos is None and not find_caches(request.data, "person-images"):
        raise ValueError(f"{request.data}: no person images are there yet; give --videos, and they are made")
    made = Plan(clips, Clock(), stop, decoders)
    encoders = _encoders(request)
    wanted = {encoder.layout: str(encoder.settings["model"]) for _, encoder in encoders} or {"strip": "this command"}
    if request.videos is None:
        _use_images(made, request, wanted)
    else:
        videos = _find_videos(request.videos, request.video_pattern, skeletons)
        _make_images(made, request, skeletons, videos, list(wanted), bars)
    for (kind, layout), group in groupby(encoders, lambda one: (one[0], one[1].layout)):
        _make_features(made, request, kind, made.images[layout], [encoder for _, encoder in group], bars)
    return made


def _find_videos(folder: Path, pattern: str | None, skeletons: Skeletons) -> Videos:
    if pattern is None:
        return find_videos(folder, skeletons.names)
    return find_by_pattern(folder, pattern, skeletons)


def _encoders(request: Request) -> list[tuple[str, Encoder]]:
    """What was asked for, each with its cache's kind, not loaded yet; those of one layout beside each other."""
    wanted = {"rgb": request.rgb, "text": request.llm}
    found = [
        (kind, encoder)
        for kind, model in wanted.items()
        if model
        for encoder in ENCODERS[kind](model, device=request.device, prompts=request.prompts)
    ]
    return sorted(found, key=lambda one: (one[0], one[1].layout))


def _use_images(made: Plan, request: Request, wanted: dict[str, str]) -> None:
    """The person images that are there, of every layout; ValueError where one lacks a clip of this process."""
    mine = [name for _, unit in request.shard.units(made.clips.names) for name in unit]
    for layout, model in wanted.items():
        recipe = known_images(request.data, layout, request.person, model)
        images = PersonImages(made.clips, recipe, made.clock, made.stop)
        if missing := images.missing(mine):
            raise ValueError(
                f"{images.folder}: {len(missing)} clips have no person image yet; give --videos again, it resumes"
            )
        made.images[layout] = images


def _make_images(
    made: Plan, request: Request, skeletons: Skeletons, videos: Videos, wanted: Sequence[str], bars: Bars
) -> None:
    """One pass over the videos for the person images of all layouts."""
    layouts, boxes = (
        [image_layout(name) for name in wanted],
        find_boxes(request.person or known_person(request.data), skeletons, request.device),
    )
    source = VideoSource(videos, layouts, made.decoders, made.clock)
    searched = not isinstance(boxes, WholeFrame | SkeletonBoxes)  # by a network, whose rows depend on their batch
    device = device_name(request.device) if searched else ""
    targets = []
    for layout in layouts:
        recipe = image_recipe(skeletons.dataset, videos.pattern, layout, boxes)
        ledger = Ledger(made.clips, recipe, 1, device, lambda name: searched and name in videos.paths)
        refuse_other_videos(ledger, videos)
        targets.append(ImageTarget(layout, boxes, ledger, made.clock))
        made.images[layout.name] = PersonImages(made.clips, recipe, made.clock, made.stop)
    found = _add(made, Pass(source, targets, clips_a_batch(layouts), made.clock), "person images", bars)
    source.feeds(list(made.images.values()), found.units)
    made.videos = source


def _make_features(
    made: Plan, request: Request, kind: str, images: PersonImages, encoders: Sequence[Encoder], bars: Bars
) -> None:
    """One pass over the person images of a layout for all that is asked of one model."""
    device = device_name(request.device)
    targets = []
    for encoder in encoders:
        recipe = feature_recipe(kind, made.clips.dataset, encoder, images.recipe)
        ledger = Ledger(made.clips, recipe, request.batch, device)
        targets.append(FeatureTarget(encoder, images, ledger))
    batch = min(target.ledger.fit for target in targets)
    asked = ", ".join(target.ledger.recipe.prompt for target in targets)
    title = f"{kind} features, {targets[0].model}" + (f", {asked}" if kind == "text" else "")
    _add(made, Pass(images, targets, batch, made.clock), title, bars)


def _add(made: Plan, one: Pass, title: str, bars: Bars) -> Pass:
    """Note a pass and, where it has something to do, what must be so before it begins."""
    made.ledgers += [target.ledger for target in one.targets]
    if one.units:
        one.show(bars(title))
        made.passes.append(one)
    return one
