"""What is asked, what a user may ask instead, and what happens when something is asked that does not exist."""

import json
from pathlib import Path

import pytest

from mmcl.pipeline.encoders.prompts import PROMPTS, Prompt, get_prompt, read_prompts

OWN = """
[holding-cup]
text = "Is the person holding a cup?"
candidates = ["yes", "no"]
layout = "single"

[in-the-hand]
text = "What is in the hand?"
candidates = { cup = ["cup", "mug"], phone = ["phone"] }

[describe-pose]
text = "Describe the pose."
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a file of prompts."""

    def written(text: str) -> Path:
        (tmp_path / "own.toml").write_text(text)
        return tmp_path / "own.toml"

    return written


def test_the_papers_instructions_are_word_for_word():
    assert {name: prompt.text for name, prompt in PROMPTS.items()} == {
        "holding-object": "Whether the person are holding object?",
        "touching-head": "Whether the hand are touching head?",
        "touching-foot": "Whether the hand are touching foot?",
        "describe-person": "Please describe the person.",
        "describe-hand": "Please describe the hand.",
        "describe-foot": "Please describe the foot.",
    }


def test_only_questions_have_candidates_and_only_descriptions_look_at_one_frame():
    for prompt in PROMPTS.values():
        question = prompt.text.startswith("Whether")
        assert prompt.candidates == (("yes", "no") if question else ())
        assert prompt.layout == ("strip" if question else "single")


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
    ("name", "text", "candidates", "spellings", "reason"),
    [
        ("", "What?", (), (), "needs a name and a text"),
        ("x", " ", (), (), "needs a name and a text"),
        ("x", "What?", ("yes",), (), "two or more different words"),
        ("x", "What?", ("yes", "Yes"), (), "two or more different words"),
        ("x", "What?", ("yes", ""), (), "two or more different words"),
        ("x", "What?", ("yes", "no"), (("yes",),), "1 spellings for 2 names"),
        ("x", "What?", ("yes", "no"), (("yes",), ()), "stands for one candidate"),
        ("x", "What?", ("left", "right"), (("a",), ("b", "A")), "stands for one candidate"),
    ],
)
def test_a_prompt_that_asks_nothing_or_weighs_nothing_is_refused(name, text, candidates, spellings, reason):
    with pytest.raises(ValueError, match=reason):
        Prompt(name, text, candidates, spellings=spellings)


def test_an_unknown_layout_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="the layout is strip or single, not 'frames-16'"):
        Prompt("x", "What?", layout="frames-16")


# -- a user's own


def test_a_users_file_gives_prompts_by_name(write):
    assert read_prompts(write(OWN)) == {
        "holding-cup": Prompt("holding-cup", "Is the person holding a cup?", ("yes", "no"), "single"),
        "in-the-hand": Prompt(
            "in-the-hand", "What is in the hand?", ("cup", "phone"), "strip", (("cup", "mug"), ("phone",))
        ),
        "describe-pose": Prompt("describe-pose", "Describe the pose."),
    }


def test_a_users_prompt_is_found_beside_the_papers_and_hinted_at(write):
    known = PROMPTS | read_prompts(write(OWN))
    assert get_prompt("holding-cup", known).text == "Is the person holding a cup?"
    assert get_prompt("holding-object", known) is PROMPTS["holding-object"]
    with pytest.raises(ValueError, match=r"did you mean in-the-hand\?"):
        get_prompt("in-the-hands", known)


def test_other_spellings_are_another_key(write):
    found = read_prompts(write(OWN))["in-the-hand"]
    assert found.settings["spellings"] == [["cup", "mug"], ["phone"]]
    plain = Prompt(found.name, found.text, found.candidates)
    assert json.dumps(found.settings) != json.dumps(plain.settings)
    assert found.said == (("cup", "mug"), ("phone",))
    assert plain.said == (("cup",), ("phone",))


def test_a_prompt_of_the_paper_may_be_repeated_and_not_reworded(write):
    same = 'text = "Please describe the hand."\nlayout = "single"'
    assert read_prompts(write(f"[describe-hand]\n{same}")) == {"describe-hand": PROMPTS["describe-hand"]}
    with pytest.raises(ValueError, match=r"own.toml: prompt 'describe-hand': mmcl's own prompt of this name asks some"):
        read_prompts(write('[describe-hand]\ntext = "Please describe the left hand."'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[x\n", "no TOML file of prompts: Expected"),
        ("", r"holds no prompt; write one as a table: \[its-name\]"),
        ("x = 3", r"prompt 'x': a prompt is a table, \[x\], with a text; got 3"),
        (
            '[x]\ntexd = "What?"',
            r"prompt 'x': no setting 'texd': did you mean text\? there are text, candidates, layout",
        ),
        ('[x]\ncandidates = ["a", "b"]', "prompt 'x': needs a name and a text"),
        ("[x]\ntext = 3", "prompt 'x': text is a string, got 3"),
        ('[x]\ntext = "What?"\nlayout = ["single"]', "prompt 'x': layout is a string"),
        ('[x]\ntext = "What?"\nlayout = "singel"', "prompt 'x': the layout is strip or single, not 'singel'"),
        ('[x]\ntext = "What?"\ncandidates = "yes"', "prompt 'x': candidates are a list of words or a table"),
        ('[x]\ntext = "What?"\ncandidates = ["yes", 1]', "prompt 'x': candidates are a list of words or a table"),
        ('[x]\ntext = "What?"\ncandidates = { a = "b", c = ["d"] }', "prompt 'x': candidates are a list of words or a"),
        ('[x]\ntext = "What?"\ncandidates = { a = [], c = ["d"] }', "prompt 'x': candidates are a list of words or a"),
        ('[x]\ntext = "What?"\ncandidates = ["yes"]', "prompt 'x': candidates are two or more different words"),
        ('[x]\ntext = "What?"\n[x]\ntext = "Why?"', "no TOML file of prompts"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_file_and_name(write, text: str, reason: str):
    with pytest.raises(ValueError, match=f"own.toml: {reason}"):
        read_prompts(write(text))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path):
    (tmp_path / "picture.toml").write_bytes(b"\xff\xd8\xff")
    for name in ("nowhere.toml", "picture.toml"):
        with pytest.raises(ValueError, match=f"{name}: no TOML file of prompts: "):
            read_prompts(tmp_path / name)
