"""`mmcl data show`: one clip's skeleton, moving as a GIF, or as a strip of poses beside its person image as a PNG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ...cache.files import write_atomic
from ...cache.skeletons import Layout, Skeletons, read_skeletons
from ...cache.store import find_caches, open_cache
from ..checks.measures import Array
from .pose import PAINTS, View, draw_pose, fit, front, grid_step
from .sheet import CARD, INK, LINE, SOFT, TRACK, font_of, stack, text_block
from .show import failure_of, pictures_of, row_named

FIELD = 400  # pixels, of a moving skeleton
MOST_FRAMES = 150  # of a GIF; of a longer clip every 2nd, 3rd ... is shown
RATE = 30  # frames a second: that of a Kinect, and of nearly all videos
COLOURS = 64  # of a GIF
POSES = 8  # of a strip
STRIP = 300  # pixels, its height
NARROWEST, WIDEST = 110, 300  # pixels of one pose
PADDING, GAP = 20, 16
EXPLAINED = 2  # bodies whose colours the legend names


@dataclass(frozen=True)
class Clip:
    """What is drawn of a clip: points [bodies, frames, V, 2] from the front, in metres or shares of a picture."""

    name: str
    label: str
    layout: Layout
    points: Array
    metres: bool


def show_clip(data: Path, name: str, out: Path) -> list[str]:
    """Draw a clip to `out`, a .gif or a .png, and give what there is to say about it.

    Raises ValueError for another kind of file, and for a name that is no clip's.
    """
    if out.suffix.lower() not in (".gif", ".png"):
        raise ValueError(f"{out}: a clip is drawn as .gif, moving, or as .png, a strip; call it {out.stem}.gif")
    skeletons = read_skeletons(data / "skeletons.h5")
    clip = read_clip(skeletons, name)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".gif":
        write_atomic(out, lambda aside: _write_gif(aside, draw_frames(clip), _step(clip)))
        return []
    picture, notes = _person_image(data, name)
    write_atomic(out, lambda aside: draw_strip(clip, picture).save(aside, "PNG"))
    return notes


def read_clip(skeletons: Skeletons, name: str) -> Clip:
    """A clip's joints as they are drawn; ValueError with the nearest names where there is none of this name."""
    row = row_named(name, skeletons)
    joints = np.asarray(skeletons.joints[row])
    joints = joints.reshape(int(skeletons.bodies[row]), -1, *joints.shape[1:])
    label = skeletons.classes[int(skeletons.labels[row])]
    return Clip(name, label, skeletons.layout, front(joints, skeletons.coordinates), skeletons.coordinates == "metres")


def _step(clip: Clip) -> int:
    return math.ceil(clip.points.shape[1] / MOST_FRAMES)


def _write_gif(path: Path, frames: list[Image.Image], step: int) -> None:
    palette = stack([frames[number * (len(frames) - 1) // 3] for number in range(4)], 0)
    colours = palette.quantize(COLOURS, Image.Quantize.MEDIANCUT)
    first, *rest = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    first.save(path, "GIF", save_all=True, append_images=rest, duration=round(1000 * step / RATE), loop=0)


def draw_frames(clip: Clip) -> list[Image.Image]:
    """The pictures of a GIF: the field is the same in all of them, only the bodies move."""
    view, count = fit(clip.points, FIELD, FIELD), clip.points.shape[1]
    head, foot = _head(clip, FIELD), _legend(clip, view)
    return [
        _framed([head, draw_pose(clip.points[:, frame], clip.layout, view, grid=True), _counted(foot, frame, count)])
        for frame in range(0, count, _step(clip))
    ]


def draw_strip(clip: Clip, picture: Image.Image | None = None) -> Image.Image:
    """Some poses in time order, each in the middle of its own field, all of one scale; a person image before them."""
    count = clip.points.shape[1]
    frames = np.unique(np.linspace(0, count - 1, POSES).round().astype(int)).tolist()
    poses = [clip.points[:, frame] for frame in frames]
    middles = [fit(pose, STRIP, STRIP).middle for pose in poses]
    moved = np.stack([pose - (middle[0], 0) for pose, middle in zip(poses, middles, strict=True)])
    width = _width(moved)
    view = fit(moved, width, STRIP)
    fields = [
        _numbered(draw_pose(pose, clip.layout, View(width, STRIP, (0.0, view.middle[1]), view.scale)), frame, count)
        for pose, frame in zip(moved, frames, strict=True)
    ]
    parts = fields if picture is None else [_numbered(picture, None, count), *fields]
    row = Image.new("RGB", (sum(part.width for part in parts) + GAP // 2 * (len(parts) - 1), parts[0].height), CARD)
    left = 0
    for part in parts:
        row.paste(part, (left, 0))
        left += part.width + GAP // 2
    return _framed([_head(clip, row.width), row, _legend(clip, view, scale=False)])


def _width(points: Array) -> int:
    """How wide a pose's field should be, so that its height is used."""
    points = points[np.isfinite(points).all(axis=-1)]
    if not len(points):
        return NARROWEST
    wide = 2 * np.abs(points[:, 0]).max()
    high = points[:, 1].max() - points[:, 1].min()
    return int(np.clip(STRIP * wide / max(high, 1e-6), NARROWEST, WIDEST))


def _head(clip: Clip, width: int) -> Image.Image:
    return stack(
        [text_block(clip.name, 18, INK, width, bold=True, lines=2), text_block(clip.label, 14, SOFT, width)], 2
    )


def _legend(clip: Clip, view: View, *, scale: bool = True) -> Image.Image:
    """Whose left and right is drawn in which colour, and how far lines of the grid are apart."""
    image = Image.new("RGB", (FIELD, 20), CARD)
    draw, font, left = ImageDraw.Draw(image), font_of(13), 0.0
    for number in range(min(len(clip.points), EXPLAINED)):
        paint = PAINTS[number]
        for word, colour in (("left", paint.left), ("right", paint.right)):
            draw.ellipse((left, 5, left + 9, 14), colour)
            draw.text((left + 13, 1), word, SOFT, font)
            left += 13 + font.getlength(word) + 12
        left += 14
    if scale and clip.metres:
        said = f"grid {grid_step(view):g} m"
        draw.text((left, 1), said, SOFT, font)
    return image


def _counted(foot: Image.Image, frame: int, count: int) -> Image.Image:
    """The legend with the frame's number, and a line that shows how far the clip is."""
    image = Image.new("RGB", (foot.width, foot.height + 10), CARD)
    image.paste(foot, (0, 10))
    draw, font, said = ImageDraw.Draw(image), font_of(13), f"{frame + 1} / {count}"
    draw.text((foot.width - font.getlength(said), 11), said, SOFT, font)
    draw.rectangle((0, 2, foot.width - 1, 4), TRACK)
    draw.rectangle((0, 2, max(round((foot.width - 1) * (frame + 1) / count), 1), 4), SOFT)
    return image


def _numbered(field: Image.Image, frame: int | None, count: int) -> Image.Image:
    """A field of the strip over its frame's number."""
    text = "person image" if frame is None else f"{frame + 1}" if frame + 1 < count else f"{frame + 1} / {count}"
    image = Image.new("RGB", (field.width, field.height + 24), CARD)
    image.paste(field, (0, 0))
    draw, font = ImageDraw.Draw(image), font_of(13)
    draw.rectangle((0, 0, field.width - 1, field.height - 1), outline=LINE)
    draw.text(((field.width - font.getlength(text)) / 2, field.height + 5), text, SOFT, font)
    return image


def _framed(parts: list[Image.Image]) -> Image.Image:
    page = stack(parts, 10)
    image = Image.new("RGB", (page.width + 2 * PADDING, page.height + 2 * PADDING), CARD)
    image.paste(page, (PADDING, PADDING))
    return image


def _person_image(data: Path, name: str) -> tuple[Image.Image | None, list[str]]:
    """The clip's pictures from the first cache that has them, and what there is to say of it."""
    notes = []
    for folder in find_caches(data, "person-images"):
        try:
            rows = open_cache(folder)
            if not (reason := failure_of(name, rows)):
                return _beside(pictures_of(name, rows)), [f"person image: {rows.recipe}"]
        except (OSError, ValueError) as error:
            reason = str(error)
        notes.append(f"no person image from {folder.name}: {reason}")
    return None, notes or ["no person images here yet; the strip is drawn alone"]


def _beside(pictures: np.ndarray) -> Image.Image:
    """One picture as high as the strip, or some of several in a square."""
    across = math.ceil(math.sqrt(len(pictures)))
    side = STRIP // across
    image = Image.new("RGB", (STRIP, STRIP), CARD)
    for number, picture in enumerate(pictures):
        place = number % across * side, number // across * side
        image.paste(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), place)
    return image
