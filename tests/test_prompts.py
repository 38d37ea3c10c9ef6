"""What is asked, and what happens when something is asked that does not exist."""

import pytest

from mmcl.pipeline.prompts import PROMPTS, Prompt, get_prompt


def test_the_papers_instructions_are_word_for_word():
    assert {name: prompt.text for name, prompt in PROMPTS.items()} == {
        "holding-object": "Whether the person are holding object?",
        "touching-head": "Whether the hand are touching head?",
        "touching-foot": "Whether the hand are touching foot?",
        "describe-person": "Please describe the person.",
        "describe-hand": "Please describe the hand.",
        "describe-foot": "Please describe the foot.",
    }


def test_only_questions_have_candidates():
    for prompt in PROMPTS.values():
        assert prompt.candidates == (("yes", "no") if prompt.text.startswith("Whether") else ())


def test_an_unknown_prompt_is_refused_with_the_nearest_and_all_names():
    with pytest.raises(ValueError, match=r"no prompt 'holding-objects': did you mean holding-object\?.*describe-foot"):
        get_prompt("holding-objects")


def test_a_name_like_no_other_is_refused_with_the_names_alone():
    with pytest.raises(ValueError, match=r"no prompt '42': there are holding-object, "):
        get_prompt("42")


def test_the_settings_tell_two_wordings_apart():
    assert get_prompt("holding-object").settings == {
        "prompt": "holding-object",
        "prompt_text": "Whether the person are holding object?",
        "candidates": ["yes", "no"],
    }


@pytest.mark.parametrize(
    ("name", "text", "candidates"),
    [("", "What?", ()), ("x", " ", ()), ("x", "What?", ("yes",)), ("x", "What?", ("yes", "Yes"))],
)
def test_a_prompt_that_asks_nothing_or_weighs_nothing_is_refused(name: str, text: str, candidates: tuple[str, ...]):
    with pytest.raises(ValueError, match="prompt"):
        Prompt(name, text, candidates)
