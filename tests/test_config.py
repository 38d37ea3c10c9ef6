"""The config: a TOML file and `--set`, checked key by key; the files that are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmcl.trainer.config import (
    SHIPPED,
    Config,
    as_dict,
    from_dict,
    make_config,
    parse_setting,
    read_config,
    shipped_config,
    shipped_names,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


def test_a_file_fills_the_config_and_the_rest_keeps_its_default(tmp_path: Path):
    path = written(tmp_path, 'split = "xview"\nlr = 1\nmilestones = [3, 5]\nrotation = [60, 60, 0]\nminmax = true\n')
    config = make_config(path, [], {"xsub": 100})
    assert (config.split, config.lr, config.milestones, config.minmax) == ("xview", 1.0, (3, 5), True)
    assert config.rotation == (60, 60, 0) and isinstance(config.lr, float)
    assert config.batch == Config.batch and config.window == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"own\.toml: no such key 'epoch'; did you mean epochs\?"),
        ("zzz = 3", r"own\.toml: no such key 'zzz'; known are split, stream, .*allow_missing"),
        ("epochs = 'many'", r"own\.toml: epochs = 'many', wanted int"),
        ("epochs = 2.5", "epochs = 2.5, wanted int"),
        ("epochs = true", "epochs = True, wanted int"),
        ("lr = false", "lr = False, wanted float"),
        ("minmax = 1", "minmax = 1, wanted bool"),
        ("split = true", "split = True, wanted str"),
        ("milestones = 10", "milestones = 10, wanted a list of int"),
        ("milestones = [10, 1.5]", r"milestones\[1\] = 1.5, wanted int"),
        ("rotation = [1, 'x', 2]", r"rotation\[1\] = 'x', wanted float"),
        ("[train]\nlr = 1", "no such key 'train'"),
        ("lr 3", r"own\.toml: not TOML \(.*line 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_config(written(tmp_path, text))


def test_a_missing_file_lists_the_shipped_ones(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml: no such config; shipped are default, demo, image, "):
        read_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stream=bones", "stream = 'bones': allowed are joint, bone, joint-motion, bone-motion"),
        ("sampling=all", "sampling = 'all': allowed are crop, random"),
        ("epochs=0", "epochs = 0: must be at least 1"),
        ("window=0", "window = 0: must be at least 1"),
        ("crop_frames=0", "crop_frames = 0: must be at least 1"),
        ("batch=-2", "batch = -2: must be at least 1"),
        ("lr=0", "lr = 0.0: must be above 0"),
        ("lr=nan", "lr = nan: must be finite"),
        ("lr=inf", "lr = inf: must be finite"),
        ("rotation=[0, nan, 0]", "rotation = .*: must be finite"),
        ("temperature=0.0", "temperature = 0.0: must be above 0"),
        ("momentum=1.0", r"momentum = 1.0: a share in \[0, 1\)"),
        ("align_weight=-1", "align_weight = -1.0: must be at least 0"),
        ("seed=-1", "seed = -1: must be at least 0"),
        ("crop=0.0", r"crop = 0.0: a share in \(0, 1\]"),
        ("test_crop=1.1", r"test_crop = 1.1: a share in \(0, 1\]"),
        ("rotation=[1, 2]", r"rotation = \[1.0, 2.0\]: three angles in degrees"),
    ],
)
def test_values_out_of_range_are_refused_with_what_is_allowed(setting: str, message: str):
    with pytest.raises(ValueError, match=message):
        Config(**parse_setting(setting))


def test_one_split_chooses_the_epoch():
    with pytest.raises(ValueError, match="one split chooses the epoch, not two"):
        Config(validation="0.2", select_on_test=True)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("epochs=20", {"epochs": 20}),
        (" lr = 1e-3", {"lr": 0.001}),
        ("lr=1", {"lr": 1.0}),
        ("split=xview", {"split": "xview"}),
        ('split="x view"', {"split": "x view"}),
        ("milestones=[10, 20]", {"milestones": (10, 20)}),
        ("milestones=[]", {"milestones": ()}),
        ("allow_missing=true", {"allow_missing": True}),
        ("validation=0.2", {"validation": "0.2"}),
        ("validation=3", {"validation": "3"}),
        ("validation=3,7", {"validation": "3,7"}),
    ],
)
def test_a_setting_is_toml_and_a_bare_word_is_a_string(text: str, parsed: dict):
    assert parse_setting(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "--set epochs: wanted key=value, such as epochs=20"),
        ("epoch=20", "--set epoch=20: no such key 'epoch'; did you mean epochs?"),
        ("epochs=many", "--set epochs=many: epochs = 'many', wanted int"),
    ],
)
def test_a_wrong_setting_is_named(text: str, message: str):
    with pytest.raises(ValueError) as caught:
        parse_setting(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_configs_load_and_open_with_command_cost_and_expectation(name: str):
    path = SHIPPED / f"{name}.toml"
    config = make_config(path, [], {"xsub": 1000})
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# mmcl ")
    assert lines[1].startswith("# Cost: ")
    assert lines[2].startswith("# Expected: ")
    assert all(milestone < config.epochs for milestone in config.milestones) and config.warmup < config.epochs


def test_a_data_set_finds_its_config_and_others_the_default():
    assert shipped_config("nw-ucla", "metres").name == "nw-ucla.toml"
    assert shipped_config("mine", "metres") == SHIPPED / "default.toml"
    assert shipped_config("mine", "image") == SHIPPED / "image.toml"
    assert shipped_config("image", "metres") == SHIPPED / "default.toml"


@pytest.mark.parametrize(("clips", "batch"), [(1000, 64), (512, 64), (100, 12), (20, 2), (3, 2), (0, 2)])
def test_unknown_data_gets_its_first_split_and_an_eighth_of_its_clips_as_batch(clips: int, batch: int):
    config = make_config(SHIPPED / "default.toml", [], {"given": clips, "xsub": 8000})
    assert (config.split, config.batch) == ("given", batch)


def test_the_cap_follows_the_split_that_was_asked_for_and_what_is_asked_for_wins():
    splits = {"given": 1000, "xsub": 80}
    assert make_config(SHIPPED / "default.toml", [{"split": "xsub"}], splits).batch == 10
    config = make_config(SHIPPED / "default.toml", [{"batch": 33, "epochs": 2}, {"epochs": 4}], splits)
    assert (config.batch, config.epochs) == (33, 4)


def test_a_config_for_known_data_keeps_its_own_batch_and_split():
    config = make_config(SHIPPED / "nw-ucla.toml", [], {"other": 8})
    assert (config.split, config.batch, config.sampling, config.window) == ("xview", 16, "random", 52)


def test_a_config_comes_back_from_its_dictionary():
    config = Config(rotation=(1, 2, 3), validation="3,7", milestones=())
    assert from_dict(as_dict(config), "run.json") == config
    with pytest.raises(ValueError, match=r"run\.json: no such key 'lrr'; did you mean lr\?"):
        from_dict({"lrr": 1}, "run.json")
