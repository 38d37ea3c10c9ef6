"""Answers are greedy and come at once, whatever a checkpoint says about generation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmcl.pipeline.demo.tiny import CHAT
from mmcl.pipeline.encoders import llm
from mmcl.pipeline.encoders.prompts import PROMPTS

QUESTION = PROMPTS["touching-head"]


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / "tiny-llava", tmp_path / "tiny-llava"))


def answered(folder: Path, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    (encoder,) = llm.load(str(folder), "cpu", [QUESTION])
    return encoder.encode(encoder.prepare(images))


def test_penalties_and_samplers_of_a_checkpoint_are_left_out(models: Path, copy: Path, images: list[np.ndarray]):
    file = copy / "generation_config.json"
    bent = {"repetition_penalty": 5.0, "min_new_tokens": 12, "no_repeat_ngram_size": 1, "use_cache": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | bent | {"do_sample": True, "temperature": 9.0}))
    plain, found = answered(models / "tiny-llava", images), answered(copy, images)
    assert plain.keys() == found.keys()
    assert all(np.array_equal(plain[column], found[column]) for column in plain)


def test_a_model_that_can_leave_thinking_out_is_asked_to(models: Path, copy: Path, images: list[np.ndarray]):
    """Else the first token, which the candidates' probabilities are read from, would begin a thought."""
    template = CHAT.replace("assistant:", "assistant:{% if enable_thinking is not false %} head{% endif %}")
    (copy / "chat_template.jinja").write_text(template)
    plain, found = answered(models / "tiny-llava", images), answered(copy, images)
    np.testing.assert_array_equal(plain["prompt_feature"], found["prompt_feature"])


def test_a_model_whose_answer_begins_with_a_thought_is_refused(copy: Path):
    (copy / "chat_template.jinja").write_text(CHAT.replace("assistant:", "assistant: <think>"))
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["<think>"] = len(tokenizer["model"]["vocab"])
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match="its chat template has the answer begin with <think>, so that"):
        llm.load(str(copy), "cpu", [QUESTION])
