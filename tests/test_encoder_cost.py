"""What an extraction notes of its encoder's cost: in each part, the merged cache, `mmcl cache info`; in no key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from mmcl.cache.cost import cost_of
from mmcl.cache.index import open_index
from mmcl.cache.merge import merge
from mmcl.cache.recipe import Recipe
from mmcl.cache.store import Made, create_cache, open_cache, write_part
from mmcl.cache.table import read_table
from mmcl.cli import app
from mmcl.pipeline.encoders.encoder import ENCODERS
from mmcl.pipeline.encoders.prompts import PROMPTS
from mmcl.tests.loop import Eye, extract, only_cache

RECIPE = Recipe("rgb", "acted", {"model": "owner/net"})


class Heavy(Eye):
    """An encoder that tells how many parameters it has."""

    parameters = 12_345_678


@pytest.fixture
def videos(raw: Path) -> Path:
    return raw / "videos"


def part(folder: Path, unit: int, made: Made, values: tuple[float, ...] = (1, 2)) -> None:
    names = [f"clip{unit}-{row}" for row in range(len(values))]
    columns = {"feature": np.array([[value] * 4 for value in values], np.float32), "logits": np.ones((len(values), 3))}
    write_part(folder, unit, names, [""] * len(names), columns, made)


def info(data: Path) -> str:
    result = CliRunner().invoke(app, ["cache", "info", str(data)])
    assert result.exit_code == 0, result.output
    return result.output


def cells(text: str, head: str) -> list[str]:
    """The values of one line of a table, without the lines around them."""
    [line] = [line for line in text.splitlines() if head in line]
    return [word for word in line.replace(head, "").split() if word not in "│┃|"]


def test_an_extraction_notes_the_encoders_parameters_and_the_devices_time(data: Path, videos: Path):
    extract(data, videos, rgb=Heavy())
    folder = only_cache(data, "rgb").folder
    found = cost_of(folder, ["feature"])
    assert found.parameters == Heavy.parameters and found.seconds is not None and found.seconds >= 0
    assert (found.rows, found.clip_bytes, found.file_bytes) == (24, 4, (folder / "cache.h5").stat().st_size)
    text = info(data)
    assert "12,345,678" in cells(text.partition("rgb: 1 cache")[2], "encoder's parameters")
    images = only_cache(data, "person-images").folder
    assert open_index(images).seconds is None and open_index(images).parameters is None  # no network made them


def test_only_the_devices_work_for_the_rows_is_counted(data: Path, videos: Path, monkeypatch: pytest.MonkeyPatch):
    """Not the trial on a blank image, which loads the weights; a second for each batch, two batches a unit."""
    monkeypatch.setattr("mmcl.pipeline.extraction.shard.UNIT", 8)
    clock = [0.0]

    class Ticking(Eye):
        def encode(self, prepared: np.ndarray, /) -> Any:
            clock[0] += 1
            return super().encode(prepared)

    monkeypatch.setattr("mmcl.pipeline.extraction.extract.time.perf_counter", lambda: clock[0])
    eye = Ticking()
    extract(data, videos, rgb=eye)
    assert open_index(only_cache(data, "rgb").folder).seconds == len(eye.batches) == 6


def test_cost_is_no_part_of_the_key(data: Path, videos: Path):
    """The same encoder that tells nothing finds the cache made: no old cache gets another key."""
    extract(data, videos, rgb=Heavy())
    eye = Eye()
    assert extract(data, rgb=eye).reports[1].note == "reused as it was" and eye.rows == 0


def test_merging_adds_time_up(tmp_path: Path):
    folder = create_cache(tmp_path, RECIPE)
    part(folder, 0, Made(parameters=7, seconds=1.25))
    part(folder, 1, Made(parameters=7, seconds=2.5))
    assert (open_index(folder).parameters, open_index(folder).seconds) == (7, 3.75)
    merge(folder)
    assert cost_of(folder, ["feature"])[2:] == (4, 7, 3.75)
    part(folder, 2, Made(parameters=7, seconds=0.25))
    merge(folder)
    assert cost_of(folder, ["feature"])[2:] == (6, 7, 4.0)


def test_time_that_is_known_of_some_rows_alone_is_not_known(tmp_path: Path):
    """A cache that was begun before it was noted: its sum would be too small."""
    folder = create_cache(tmp_path, RECIPE)
    part(folder, 0, Made())
    merge(folder)
    assert read_table(folder / "cache.h5")[1].keys().isdisjoint({"parameters", "device_ms"})
    assert cost_of(folder, ["feature", "absent"]) == (16, (folder / "cache.h5").stat().st_size, 2, None, None)
    assert cells(info(tmp_path), "device seconds") == ["-"]
    part(folder, 1, Made(parameters=7, seconds=2.5))
    merge(folder)
    assert cost_of(folder, ["feature"])[3:] == (7, None)
    assert open_cache(folder).names == ["clip0-0", "clip0-1", "clip1-0", "clip1-1"]


@pytest.mark.parametrize(("kind", "model"), [("rgb", "tiny-resnet"), ("text", "tiny-blip-vqa")])
def test_the_encoders_of_transformers_tell_their_parameters(models: Path, kind: str, model: str):
    """All of the checkpoint's but the statistics of its batch norms; weights that are tied are counted once."""
    [encoder] = ENCODERS[kind](str(models / model), device="cpu", prompts=[PROMPTS["holding-object"]])
    stored = load_file(models / model / "model.safetensors")
    counted = {name: value.numel() for name, value in stored.items() if "running_" not in name and "num_b" not in name}
    found: Any = getattr(encoder, "parameters", None)
    assert found == pytest.approx(sum(counted.values()), rel=0.02) and found > 1000


def test_a_users_encoder_may_tell_a_number_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A torch module's `parameters` is a function, which is no number."""
    body = (
        "    settings, layout = {}, 'strip'\n    def __init__(self, device): pass\n    def encode(self, x): return {}\n"
    )
    told = "    parameters = 5\n", "", "    def parameters(self): return []\n"
    code = [f"class E{number}:\n{body}{more}" for number, more in enumerate(told)]
    (tmp_path / "heavy_encoders.py").write_text("\n".join(code))
    monkeypatch.chdir(tmp_path)
    loaded = [ENCODERS["rgb"](f"heavy_encoders:E{number}", device="cpu")[0] for number in range(3)]
    assert [getattr(encoder, "parameters", None) for encoder in loaded] == [5, None, None]
