"""Contact sheets: the pictures that the models saw, in order, with the answers under them; no text can crash one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFont

from mmcl.cache.mapped import Ragged
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split, write_skeletons
from mmcl.cache.store import create_cache, write_part
from mmcl.pipeline.pictures.sheet import PINK, Answer, Card, Panel, draw_sheet, wrap
from mmcl.pipeline.pictures.show import choose, contact_sheet, read_cards, sample
from mmcl.pipeline.videos.person import to_jpegs

NAMES = ("wave-1", "drink-1", "wave-2", "drink-2")
STRANGE = [
    "\x1b[31mred\x07",
    "歩く مرحبا 😀 \u202eevil",
    "x" * 5000,
    "",
    "\ud800",
    "a\nb\tc",
    "\N{COMBINING ACUTE ACCENT}" * 50,
]


def skeletons(names: tuple[str, ...] = NAMES, classes: tuple[str, ...] = ("wave", "drink")) -> Skeletons:
    count = len(names)
    return Skeletons(
        dataset="acted",
        classes=classes,
        layout=Layout("two", ("hip", "head"), ((1, 0),), 0),
        names=names,
        labels=np.arange(count) % len(classes),
        bodies=np.ones(count, int),
        joints=Ragged.of([np.ones((1, 2, 3), np.float32)] * count),
        splits={"all": Split(np.full(count, TRAIN, np.int8))},
    )


def picture(number: int, size: int = 480) -> np.ndarray:
    """Soft blots, another for each number: a JPEG keeps them."""
    noise = np.random.default_rng(number).integers(40, 215, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)


def person_images(data: Path, layout: str = "strip", failed: str = "", *, finish: bool = True) -> str:
    """The key of a cache of person images; a frame of "frames-4" is another blot than the next."""
    frames = int(layout[7:]) if layout.startswith("frames") else 1
    settings = {"layout": layout, "person": "frame", "frames": frames}
    folder = create_cache(data, Recipe("person-images", "acted", settings))
    images = [np.stack([picture(10 * row + k, 480 // frames) for k in range(frames)]) for row in range(len(NAMES))]
    files = [to_jpegs(image if frames > 1 else image[0]) for image in images]
    columns = {"jpeg": Ragged.of([file for file, _ in files]), "jpeg_ends": np.stack([ends for _, ends in files])}
    write_part(folder, 0, NAMES, ["timeout: 60 s" if name == failed else "" for name in NAMES], columns)
    if finish:
        merge(folder)
    return folder.name


def text(data: Path, images: str, model: str, prompt: str = "holding-object", *, finish: bool = True) -> str:
    asked = {"prompt": prompt, "prompt_text": f"{prompt}?", "candidates": ["yes", "no"] * (prompt == "holding-object")}
    folder = create_cache(data, Recipe("text", "acted", {"model": model, "person_images": images, **asked}))
    columns = {"answer_text": np.array([f"{prompt} {name}".encode() for name in NAMES])}
    if asked["candidates"]:
        columns["probabilities"] = np.array([[0.25, 0.75]] * 4, np.float32)
        columns["mass"] = np.full(4, 0.5, np.float32)
    write_part(folder, 0, NAMES, ["not finite: mass" if name == "wave-2" else "" for name in NAMES], columns)
    if finish:
        merge(folder)
    return folder.name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "acted"
    folder.mkdir()
    write_skeletons(folder / "skeletons.h5", skeletons())
    return folder


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def place_of(part: np.ndarray, sheet: np.ndarray) -> tuple[int, int]:
    """Where a picture lies on the sheet: left and top; it has to be there."""
    distance = cv2.matchTemplate(sheet, part, cv2.TM_SQDIFF)
    found, _, place, _ = cv2.minMaxLoc(distance)
    assert np.sqrt(found / part.size) < 6, "the picture is not on the sheet"  # grey levels, as a JPEG changes it
    return place[0], place[1]


def test_the_sheet_shows_the_pictures_of_the_clips_in_their_order(data: Path, tmp_path: Path):
    text(data, person_images(data), "owner/llm")
    out = contact_sheet(data, ["wave-2", "drink-1"], tmp_path / "new" / "sheet.png")
    sheet = drawn(out)
    left, right = place_of(picture(20), sheet), place_of(picture(10), sheet)
    assert left[1] == right[1]
    assert left[0] < right[0]
    with pytest.raises(AssertionError, match="not on the sheet"):
        place_of(picture(0), sheet)


def test_frames_are_laid_out_in_time_order_as_one_reads(data: Path, tmp_path: Path):
    person_images(data, "frames-8")
    sheet = drawn(contact_sheet(data, ["drink-1"], tmp_path / "sheet.png"))
    frames = [cv2.resize(picture(10 + k, 60), (117, 117), interpolation=cv2.INTER_LANCZOS4) for k in range(8)]
    places = [place_of(frame[20:-20, 20:-20], sheet) for frame in frames]
    assert places == sorted(places, key=lambda place: (place[1], place[0]))
    assert len({top for _, top in places}) == 2


def test_a_sheet_is_the_same_each_time(data: Path, tmp_path: Path):
    text(data, person_images(data), "owner/llm")
    sheets = [contact_sheet(data, [], tmp_path / name).read_bytes() for name in ("a.png", "b.png")]
    assert sheets[0] == sheets[1]


def test_answers_stand_under_the_pictures_that_their_model_saw(data: Path):
    strip, single = person_images(data), person_images(data, "single")
    text(data, strip, "owner/llm")
    text(data, single, "owner/llm", "describe-person")
    panels = read_cards(["drink-2"], skeletons(), choose(data, None, []))[0].panels
    assert {panel.caption for panel in panels} == {
        f"strip, person: frame, cache {strip}",
        f"single, person: frame, cache {single}",
    }
    (asked,), (described,) = sorted((panel.answers for panel in panels), key=lambda answers: answers[0].mass is None)
    assert (asked.model, asked.prompt, asked.question) == ("owner/llm", "holding-object", "holding-object?")
    assert (asked.text, asked.candidates, asked.mass) == ("holding-object drink-2", (("yes", 0.25), ("no", 0.75)), 0.5)
    assert (described.text, described.candidates, described.mass) == ("describe-person drink-2", (), None)


def test_failed_clips_show_their_reason_once(data: Path, tmp_path: Path):
    text(data, person_images(data, failed="drink-1"), "owner/llm")
    chosen = choose(data, None, [])
    video, answer = (card.panels[0] for card in read_cards(["drink-1", "wave-2"], skeletons(), chosen))
    assert (video.failure, len(video.pictures)) == ("timeout: 60 s", 0)
    assert (answer.failure, len(answer.pictures)) == ("", 1)
    assert answer.answers[0].failure == "not finite: mass"
    with_failure = drawn(contact_sheet(data, ["drink-1"], tmp_path / "failed.png"))
    without = drawn(contact_sheet(data, ["drink-2"], tmp_path / "good.png"))
    assert (with_failure == PINK).all(axis=2).sum() > 10_000 > (without == PINK).all(axis=2).sum()


def test_a_clip_that_a_cache_lacks_and_a_damaged_picture_are_said(data: Path):
    key = person_images(data)
    folder = create_cache(data, Recipe("text", "acted", {"model": "few", "person_images": key}))
    write_part(folder, 0, NAMES[:1], [""], {"answer_text": np.array([b"yes"])})
    merge(folder)
    path = data / "person-images" / key / "cache.h5"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\xff\xd8\xff\xe0", b"\x00\x00\x00\x00", 1))
    first, second = (card.panels[0] for card in read_cards(NAMES[:2], skeletons(), choose(data, None, [])))
    assert "damaged" in first.failure
    assert first.answers[0].text == "yes"
    assert second.failure == ""
    assert second.answers[0].failure == "missing: not in this cache"


def test_without_names_one_clip_a_class_is_taken_always_the_same():
    many = skeletons(tuple(f"clip{number}" for number in range(60)), tuple(f"class{number}" for number in range(20)))
    chosen = sample(many)
    classes = [int(name.removeprefix("clip")) % 20 for name in chosen]
    assert len(set(classes)) == 12
    assert classes == sorted(classes)
    assert chosen == sample(many)
    assert [name[:-2] for name in sample(skeletons())] == ["wave", "drink"]


def test_text_caches_are_chosen_by_key_or_model_and_bring_their_pictures(data: Path):
    strip, single = person_images(data), person_images(data, "single")
    first, _ = text(data, strip, "owner/one"), text(data, strip, "owner/two")
    text(data, single, "owner/one", "describe-person")
    by_key = choose(data, None, [first[:6]])
    assert [(images.recipe.key, [one.recipe.key for one in texts]) for images, texts in by_key.panels] == [
        (strip, [first])
    ]
    by_model = choose(data, None, ["owner/one"])
    assert {images.recipe.key for images, _ in by_model.panels} == {strip, single}
    by_images = choose(data, single[:6], [])
    assert [(images.recipe.key, len(texts)) for images, texts in by_images.panels] == [(single, 1)]
    with pytest.raises(ValueError, match=rf"{first}  owner/one, .*: made of the person images {strip}, which are not"):
        choose(data, single, [first])


def test_what_is_not_finished_is_left_out_and_said_or_refused_where_it_was_named(data: Path):
    images = person_images(data)
    key = text(data, images, "owner/llm", finish=False)
    chosen = choose(data, None, [])
    assert [len(texts) for _, texts in chosen.panels] == [0]
    assert chosen.notes == (f"not shown, since it is not finished: text {key}  owner/llm, prompt holding-object",)
    with pytest.raises(ValueError, match="not finished; run the same `mmcl extract-features` again, it resumes"):
        choose(data, None, [key])


def test_without_finished_person_images_there_is_nothing_to_show(data: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="acted: no finished person images; make them with `mmcl extract-features`"):
        contact_sheet(data, [], tmp_path / "sheet.png")
    key = person_images(data, finish=False)
    with pytest.raises(ValueError, match=f"not shown, since it is not finished: person-images {key}"):
        contact_sheet(data, [], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_answers_whose_pictures_are_gone_are_said_to_be_missing(data: Path):
    person_images(data)
    key = text(data, "0123456789ab", "owner/llm")
    assert choose(data, None, []).notes[-1] == (
        f"not shown: {key}  owner/llm, prompt holding-object: made of the person images 0123456789ab, "
        "which are not here"
    )


def test_names_that_are_none_and_too_many_are_refused(data: Path, tmp_path: Path):
    person_images(data)
    with pytest.raises(ValueError, match=r"'wave-3': acted has no clip of this name; did you mean wave-2"):
        contact_sheet(data, ["wave-3"], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"sheet\.jpg: a contact sheet is a PNG; call it sheet\.png"):
        contact_sheet(data, [], tmp_path / "sheet.jpg")
    many = skeletons(tuple(f"clip{number}" for number in range(61)))
    write_skeletons(data / "skeletons.h5", many)
    with pytest.raises(ValueError, match="61 clips on one sheet: at most 60 are wanted; draw several sheets"):
        contact_sheet(data, many.names, tmp_path / "sheet.png")


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strangers_text_of_any_kind_is_drawn(strange: str):
    answers = (
        Answer(strange, strange, strange, strange, ((strange, float("nan")), (strange, 2.0), ("", -1.0)), float("inf")),
        Answer(strange, strange, strange, failure=strange or "x"),
    )
    panels = Panel(picture(0)[None], strange, answers), Panel(np.zeros((0, 1, 1, 3), np.uint8), "", (), strange or "x")
    sheet = draw_sheet(strange, [strange], [Card(strange, strange, panels)])
    assert sheet.width == 600
    assert sheet.height < 3000


def test_text_is_broken_at_spaces_and_inside_a_word_that_is_too_long():
    font = ImageFont.load_default(14)
    assert isinstance(font, ImageFont.FreeTypeFont)
    lines = wrap("one two three " + "w" * 80, font, 100, 40)
    assert "".join(lines).replace(" ", "") == "onetwothree" + "w" * 80
    assert all(font.getlength(line) <= 100 for line in lines)
    assert lines[0].startswith("one two")
    cut = wrap("one two three four five six seven", font, 60, 2)
    assert len(cut) == 2
    assert cut[-1].endswith("…")
    assert font.getlength(cut[-1]) <= 60
    assert wrap("", font, 100, 3) == [""]
