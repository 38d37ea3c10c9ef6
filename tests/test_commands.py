"""`mmcl cache ...`, `mmcl models encoders` and `mmcl show`, as a user runs them, on small real caches."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mmcl.cache.mapped import Ragged
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.skeletons import read_skeletons
from mmcl.cache.store import Made, create_cache, is_merged, open_cache, write_part
from mmcl.cli import app
from mmcl.pipeline.encoders.families import KNOWN_NOT_TO_WORK, LLM_FAMILIES, RGB_FAMILIES
from mmcl.pipeline.launched import is_said
from mmcl.pipeline.tables import side_by_side
from mmcl.pipeline.videos.person import image_layout, to_jpegs
from mmcl.trainer.backbones import BACKBONES

ASKED = {"prompt": "holding-object", "prompt_text": "Whether?", "candidates": ["yes", "no"], "dtype": "float32"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def output(*arguments: object) -> str:
    """What a command that succeeds prints, spaces and lines as one space each."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refusal(*arguments: object) -> str:
    """The error of a command that refuses, as `mmcl` prints it."""
    result = run(*arguments)
    assert isinstance(result.exception, ValueError | FileNotFoundError), result.output
    return str(result.exception)


def clip_names(data: Path) -> list[str]:
    return list(read_skeletons(data / "skeletons.h5").names)


def features(
    data: Path,
    model: str,
    *,
    count: int = 24,
    failed: dict[int, str] | None = None,
    made: Made | None = None,
    **more: str,
) -> Path:
    """A text cache of the first clips, not merged."""
    names = clip_names(data)[:count]
    rng = np.random.default_rng(len(model))
    yes = rng.random(count).astype(np.float32)
    columns = {
        "prompt_feature": rng.normal(size=(count, 8)).astype(np.float32),
        "answer_text": np.where(yes > 0.5, b"yes", b"no"),
        "probabilities": np.stack([yes, 1 - yes], 1),
        "mass": yes / 2,
    }
    folder = create_cache(data, Recipe("text", "acted", {"model": model, **ASKED, **more}))
    write_part(folder, 0, names, [(failed or {}).get(row, "") for row in range(count)], columns, made)
    return folder


def person_images(data: Path) -> Path:
    layout, names = image_layout("strip"), clip_names(data)
    jpeg, ends = to_jpegs(layout.blank())
    folder = create_cache(data, Recipe("person-images", "acted", {**layout.settings, "person": "frame"}))
    columns = {"jpeg": Ragged.of([jpeg] * len(names)), "jpeg_ends": np.stack([ends] * len(names))}
    write_part(folder, 0, names, [""] * len(names), columns)
    merge(folder)
    return folder


# -- info


def test_info_says_once_what_caches_share_and_sets_the_rest_side_by_side(data: Path):
    failed = {0: "unreadable: x", 1: "unreadable: y", 2: "timeout: 60 s"}
    first = features(data, "owner/one", failed=failed, made=Made(16, 4, 1, {"torch": "2.13", "numpy": "2.4"}))
    second = features(data, "owner/two", made=Made(16, 16, 1, {"torch": "2.14", "numpy": "2.4"}))
    merge(first), merge(second)
    said = output("cache", "info", data)
    assert "text: 2 caches" in said
    assert said.count("float32") == 1
    assert 'settings, all of them: candidates ["yes", "no"], dtype float32, prompt holding-object' in said
    assert "made with, all of them: numpy 2.4" in said
    columns = sorted([(first.name, 0), (second.name, 1)])
    for row in (
        ["model", *(("owner/one", "owner/two")[which] for _, which in columns)],
        ["torch", *(("2.13", "2.14")[which] for _, which in columns)],
        ["rows", "24", "24"],
        ["failed", *(("3 (2 unreadable, 1 timeout)", "0")[which] for _, which in columns)],
        ["batch", *(("16, of which 4 fitted", "16")[which] for _, which in columns)],
        ["finished", "yes", "yes"],
    ):
        assert " │ ".join(row) in said


def test_info_of_unfinished_caches_says_how_far_they_are_and_how_to_go_on(data: Path):
    some, whole = features(data, "owner/some", count=20), features(data, "owner/whole")
    said = output("cache", "info", data)
    assert f"{some}: not finished, 20 rows so far, 4 clips have none; run its `mmcl extract-features` again" in said
    assert f"{whole}: not finished, 24 rows so far, which are all; put them together with `mmcl cache merge`" in said


def test_info_shows_the_caches_beside_one_that_cannot_be_read(data: Path):
    good, torn = features(data, "owner/good"), features(data, "owner/torn")
    merge(good), merge(torn)
    os.truncate(torn / "cache.h5", 1000)
    result = run("cache", "info", data)
    assert result.exit_code == 1
    assert f"{torn}: cannot be read: " in result.output
    assert good.name in result.output
    assert "owner/good" in result.output


def test_info_of_nothing(data: Path):
    assert "no feature cache yet; make one with `mmcl extract-features`" in output("cache", "info", data)
    assert "no such folder; make it with `mmcl prepare`" in refusal("cache", "info", data / "nowhere")


def test_many_caches_stand_in_several_tables(data: Path):
    keys = [merge(features(data, f"owner/model-{number}")).recipe.key for number in range(7)]
    said = output("cache", "info", data)
    assert all(f" {key} " in said for key in keys)
    assert said.count("│ model │") == 2


def test_a_models_name_can_neither_colour_nor_hide(data: Path):
    merge(features(data, "[red]\x1b[31m"))
    assert "[red]\N{REPLACEMENT CHARACTER}[31m" in output("cache", "info", data)


# -- verify


def spoil(path: Path, column: str = "prompt_feature", row: int = 3) -> None:
    import h5py

    with h5py.File(path) as file:
        place = file[column].id.get_offset() + row * file[column].dtype.itemsize * 8
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_verify_names_damaged_rows_in_finished_and_unfinished_caches(data: Path):
    whole, merged, parts = (features(data, f"owner/{name}") for name in ("whole", "merged", "parts"))
    merge(whole), merge(merged)
    part = next((parts / "parts").glob("*.h5"))
    spoil(merged / "cache.h5", row=3), spoil(part, row=5)
    result = run("cache", "verify", data)
    names = clip_names(data)
    assert result.exit_code == 1
    assert f"{whole}: every row is as it was written" in result.output
    assert f"{merged / 'cache.h5'}: damaged: {names[3]}; move {merged} away and run the same" in result.output
    assert f"{part}: damaged: {names[5]}; delete this file and run the same" in result.output


def test_verify_goes_on_after_a_torn_file(data: Path):
    good, torn = merge(features(data, "owner/good")).folder, merge(features(data, "owner/torn")).folder
    os.truncate(torn / "cache.h5", 1000)
    result = run("cache", "verify", data)
    assert result.exit_code == 1
    assert "not a readable HDF5 file" in result.output
    assert f"{good}: every row is as it was written" in result.output


def test_verify_of_whole_caches_succeeds(data: Path):
    merge(features(data, "owner/good"))
    create_cache(data, Recipe("rgb", "acted", {"model": "begun"}))
    said = output("cache", "verify", data)
    assert "every row is as it was written" in said
    assert "no rows yet" in said


# -- compare


def test_compare_prints_agreement_probabilities_features_and_classes(data: Path):
    left = merge(features(data, "owner/a", failed={0: "timeout: 60 s"})).recipe
    right = merge(features(data, "owner/bb", dtype="bfloat16")).recipe
    said = output("cache", "compare", data, left.key[:5], "owner/bb")
    assert f"left: {left.key} owner/a, prompt holding-object" in said
    assert f"right: {right.key} owner/bb" in said
    assert "│ dtype │ float32 │ bfloat16 │" in said
    assert "prompt_text" not in said
    assert "clips: 23 compared; 24 in both, 0 only left, 0 only right; failed: 1 left, 0 right" in said
    for part in ("same answer: ", "same likeliest candidate: ", "mass, the models' belief", "│ yes │", "│ drink │ 3 │"):
        assert part in said
    assert "nan" not in said


def test_compare_says_what_is_undefined_with_a_dash(data: Path):
    folder = create_cache(data, Recipe("rgb", "acted", {"model": "flat"}))
    names = clip_names(data)
    write_part(folder, 0, names, [""] * 24, {"feature": np.zeros((24, 4), np.float32)})
    merge(folder)
    said = output("cache", "compare", data, "flat", "flat")
    assert "│ feature │ 4 │ - │ - │ - │" in said
    assert "│ drink │ 4 │" in said
    assert "same answer" not in said


def test_caches_that_a_name_does_not_single_out_are_listed(data: Path):
    merge(features(data, "owner/a")), merge(features(data, "owner/a", dtype="bfloat16"))
    said = refusal("cache", "compare", data, "owner/a", "owner/a")
    assert said.startswith("owner/a: 2 caches are meant; give the key of one:\n  text  ")
    assert said.count("\n") == 2
    assert "nobody: no such cache in " in (said := refusal("cache", "compare", data, "nobody", "owner/a"))
    assert said.count("\n") == 2


def test_the_beginning_of_a_key_has_to_be_that_of_one(data: Path):
    keys = [merge(features(data, f"owner/{number}")).recipe.key for number in range(17)]  # of 16 first digits
    digit, count = Counter(key[0] for key in keys).most_common(1)[0]
    said = refusal("cache", "compare", data, digit, digit)
    assert said.startswith(f"{digit}: {count} caches have a key that begins so; there are:\n  text  ")


# -- merge, export


def test_merge_puts_parts_together_and_says_what_is_missing(data: Path):
    some, done = features(data, "owner/some", count=20), merge(features(data, "owner/done")).folder
    begun = create_cache(data, Recipe("rgb", "acted", {"model": "begun"}))
    said = output("cache", "merge", data)
    assert f"{some}: merged, 20 rows 4 clips have no row; its `mmcl extract-features` makes these alone" in said
    assert f"{done}: one file already" in said
    assert f"{begun}: no rows yet" in said
    assert is_merged(some)
    assert len(open_cache(some).names) == 20


def test_export_by_the_beginning_of_a_key(data: Path, tmp_path: Path):
    rows = merge(features(data, "owner/a"))
    out = tmp_path / "a.npz"
    assert f"written: {out}" in output("cache", "export", data, rows.recipe.key[:6], "--out", out)
    with np.load(out) as found:
        assert found["name"].tolist() == clip_names(data)
    assert "not finished" in refusal("cache", "export", data, features(data, "owner/b").name, "--out", out)


# -- models, show


def test_encoders_names_every_family_what_it_needs_and_what_does_not_work():
    said = output("models", "encoders")
    for family in (*LLM_FAMILIES, *RGB_FAMILIES):
        assert f"│ {family.name} │" in said
        assert family.example in said
        assert family.needs in said
    assert "person images: strip or single" in said
    for kind, reason in KNOWN_NOT_TO_WORK:
        assert f"{kind}: {reason}" in said
    assert "module:Class" in said


def test_backbones_are_listed_with_what_they_cost():
    said = output("models", "backbones")
    assert all(name in said for name in BACKBONES)
    assert "ctrgcn │ 1.46 M │" in said


def test_what_launched_processes_all_have_to_say_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another line is said, and without a launcher every line."""
    for rank, said in ((0, False), (1, True)):
        (tmp_path / str(rank)).mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / str(rank) / "error.json"))
        assert is_said("mmcl: batch 1: too few") is said
    assert not is_said("mmcl: the disk is full")
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    assert not is_said("mmcl: batch 1: too few")


def test_show_draws_the_clips_that_are_named_or_one_a_class(data: Path, tmp_path: Path):
    person_images(data)
    out = tmp_path / "sheet.png"
    assert f"written: {out}" in output("show", data, "--out", out)
    sizes = [out.stat().st_size]
    output("show", data, clip_names(data)[0], "--out", out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size < sizes[0]
    assert "no clip of this name" in refusal("show", data, "nobody", "--out", out)
    assert "owner/llm: no such cache" in refusal("show", data, "--text", "owner/llm", "--out", out)


@pytest.mark.parametrize("command", ["info", "verify", "compare", "merge", "export"])
def test_every_command_explains_itself(command: str):
    assert "DATA" in run("cache", command, "--help").output


def test_settings_side_by_side_say_once_what_they_share():
    shared = {"prompt": "holding-object", "size": {"height": 64, "width": 64}, "candidates": ["yes", "no"]}
    left = {"model": "a", **shared, "dtype": "float32"}
    same, differing = side_by_side([left, {"model": "b", **shared, "size": {"height": 64, "width": 32}}])
    assert same == {"candidates": '["yes", "no"]', "prompt": "holding-object", "size.height": "64"}
    assert differing == {"dtype": ("float32", "-"), "model": ("a", "b"), "size.width": ("64", "32")}
    assert side_by_side([left])[1] == {}
