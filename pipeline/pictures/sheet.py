"""Drawing a contact sheet: cards of pictures with what was answered about them, on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...cache.words import printable

WIDTH = 480  # pixels of a card's content; a strip fits as it is
PADDING, GAP, MARGIN = 20, 24, 40  # inside a card, between cards, around the page
TIGHT, LOOSE = 6, 14  # between lines that belong together, and between those that do not
COLUMNS = 3
PAGE, CARD, LINE = (244, 244, 241), (255, 255, 255), (225, 225, 220)
INK, SOFT, RED, PINK = (30, 34, 40), (108, 114, 122), (170, 38, 28), (253, 238, 236)
BAR, FAINT, TRACK = (46, 107, 166), (163, 189, 214), (236, 238, 240)
WORD, SHARE = 112, 66  # pixels of a bar's row that its word and its number take

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Answer:
    """What one model said to one question; `failure` instead of it, where there is none.

    `candidates` are words with their probabilities, `mass` is the model's total belief in them; None without any.
    """

    model: str
    prompt: str
    question: str
    text: str = ""
    candidates: tuple[tuple[str, float], ...] = ()
    mass: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Panel:
    """A clip's pictures uint8 RGB [k, H, W, 3] in time order, how they were made, and the answers of who saw them."""

    pictures: np.ndarray
    caption: str
    answers: tuple[Answer, ...]
    failure: str = ""


@dataclass(frozen=True)
class Card:
    """One clip."""

    name: str
    label: str
    panels: tuple[Panel, ...]


def draw_sheet(title: str, notes: Sequence[str], cards: Sequence[Card]) -> Image.Image:
    """The page: a title, a line a note, and the cards in rows."""
    across = min(COLUMNS, len(cards))
    width = across * (WIDTH + 2 * PADDING) + (across - 1) * GAP
    lines = [text_block(note, 15, SOFT, width, lines=2, ground=PAGE) for note in notes]
    head = stack([text_block(title, 30, INK, width, bold=True, lines=2, ground=PAGE), *lines], TIGHT, PAGE)
    rows = [_row(cards[start : start + across]) for start in range(0, len(cards), across)]
    page = stack([head, *rows], GAP, PAGE)
    framed = Image.new("RGB", (page.width + 2 * MARGIN, page.height + 2 * MARGIN), PAGE)
    framed.paste(page, (MARGIN, MARGIN))
    return framed


def _row(cards: Sequence[Card]) -> Image.Image:
    """Cards side by side, their parts at equal heights, so that like pictures lie beside each other."""
    drawn = [[_head(card), *map(_panel, card.panels)] for card in cards]
    heights = [max(part.height for part in parts) for parts in zip(*drawn, strict=True)]
    columns = [
        stack([_high(part, height) for part, height in zip(parts, heights, strict=True)], GAP) for parts in drawn
    ]
    wide, height = WIDTH + 2 * PADDING, columns[0].height + 2 * PADDING
    row = Image.new("RGB", (len(cards) * (wide + GAP) - GAP, height), PAGE)
    draw = ImageDraw.Draw(row)
    for number, column in enumerate(columns):
        left = number * (wide + GAP)
        draw.rounded_rectangle((left, 0, left + wide - 1, height - 1), 10, CARD, LINE)
        row.paste(column, (left + PADDING, PADDING))
    return row


def _high(image: Image.Image, height: int) -> Image.Image:
    """The image with empty space below."""
    return stack([image, Image.new("RGB", (WIDTH, height - image.height), CARD)], 0)


def _head(card: Card) -> Image.Image:
    return stack([text_block(card.name, 20, INK, bold=True, lines=2), text_block(card.label, 16, SOFT)], 2)


def _panel(panel: Panel) -> Image.Image:
    shown = _failure(panel.failure) if panel.failure else _pictures(panel.pictures)
    answers = [part for answer in panel.answers for part in (_rule(), _answer(answer))]
    return stack([stack([shown, text_block(panel.caption, 13, SOFT)], TIGHT), *answers], LOOSE)


def _pictures(pictures: np.ndarray) -> Image.Image:
    """One picture as wide as the card, or several in rows, read as text is."""
    across = _across(len(pictures))
    side = (WIDTH - (across - 1) * 4) // across
    height = max(round(side * pictures.shape[1] / pictures.shape[2]), 1)
    down = math.ceil(len(pictures) / across)
    image = Image.new("RGB", (WIDTH, down * (height + 4) - 4), CARD)
    for number, picture in enumerate(pictures):
        place = number % across * (side + 4), number // across * (height + 4)
        image.paste(Image.fromarray(picture).resize((side, height), Image.Resampling.LANCZOS), place)
    return image


def _across(count: int) -> int:
    return count if count < 5 else 4 if count <= 16 else 8


def _failure(reason: str) -> Image.Image:
    text = text_block(reason, 16, RED, WIDTH - 2 * PADDING, lines=6, ground=PINK)
    image = Image.new("RGB", (WIDTH, text.height + 4 * PADDING), CARD)
    ImageDraw.Draw(image).rounded_rectangle((0, 0, WIDTH - 1, image.height - 1), 6, PINK)
    image.paste(text, (PADDING, 2 * PADDING))
    return image


def _answer(answer: Answer) -> Image.Image:
    asked = text_block(f"{answer.model} · {answer.prompt}", 14, INK, bold=True, lines=2)
    head = [asked, text_block(answer.question, 14, SOFT, lines=3)]
    if answer.failure:
        return stack([*head, text_block(answer.failure, 15, RED, lines=4)], TIGHT)
    said = text_block(f"“{answer.text}”", 18, INK, lines=5) if answer.text else text_block("(no words)", 18, SOFT)
    return stack([*head, said, *_bars(answer)], TIGHT)


def _bars(answer: Answer) -> list[Image.Image]:
    most = max((share for _, share in answer.candidates), default=0)
    bars = [_bar(word, share, INK, BAR if share == most else FAINT) for word, share in answer.candidates]
    return bars if answer.mass is None else [*bars, _bar("mass", answer.mass, SOFT, SOFT)]


def _bar(word: str, share: float, ink: Colour, colour: Colour) -> Image.Image:
    """A word, a bar, and the share as a number."""
    image = Image.new("RGB", (WIDTH, 22), CARD)
    image.paste(text_block(word, 14, ink, WORD - 8), (0, 2))
    number = f"{share:.1%}" if math.isfinite(share) else "-"
    draw, font = ImageDraw.Draw(image), font_of(14)
    draw.text((WIDTH - font.getlength(number), 2), number, ink, font)
    left, right = WORD, WIDTH - SHARE
    draw.rounded_rectangle((left, 6, right, 15), 4, TRACK)
    if math.isfinite(share) and (end := left + (right - left) * min(max(share, 0), 1)) >= left + 1:
        draw.rounded_rectangle((left, 6, end, 15), min(4, (end - left) / 2), colour)
    return image


def _rule() -> Image.Image:
    return Image.new("RGB", (WIDTH, 1), LINE)


def stack(images: Sequence[Image.Image], gap: int, ground: Colour = CARD) -> Image.Image:
    """Images one below the other."""
    height = sum(image.height for image in images) + gap * (len(images) - 1)
    stacked, top = Image.new("RGB", (max(image.width for image in images), height), ground), 0
    for image in images:
        stacked.paste(image, (0, top))
        top += image.height + gap
    return stacked


def text_block(
    text: str,
    size: int,
    colour: Colour,
    width: int = WIDTH,
    *,
    bold: bool = False,
    lines: int = 1,
    ground: Colour = CARD,
) -> Image.Image:
    """Some lines of text, cut with an ellipsis where there are more; a stranger's text may hold anything."""
    font, height = font_of(size, bold=bold), round(size * 1.35)
    wrapped = wrap(" ".join(printable(text).split()), font, width, lines)
    image = Image.new("RGB", (width, height * len(wrapped)), ground)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(wrapped):
        draw.text((0, number * height), line, colour, font)
    return image


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """The text in at most `most` lines of `width` pixels, broken at spaces, and inside a word that is too long."""
    lines, rest = [], text
    while rest and len(lines) < most:
        cut = _fitting(rest, font, width)
        space = rest.rfind(" ", 0, cut + 1)
        cut = space if cut < len(rest) and space > 0 else cut
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if rest:
        lines[-1] = lines[-1][: max(_fitting(lines[-1] + "…", font, width) - 1, 0)] + "…"
    return lines or [""]


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> int:
    """How many characters from the start fit in `width` pixels; at least one."""
    low, high = 1, min(len(text), width)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


@cache
def font_of(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: Latin, Greek, Cyrillic and more; an empty box for what it lacks."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)
