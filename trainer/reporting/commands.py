"""The commands that make a run again, as far as the run knows them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import Config, as_dict, make_config, shipped_config, shipped_names
from ..run import Run
from .content import Command

FLAGS = {"select_on_test": "--select-on-test", "allow_missing": "--allow-missing"}
OPTIONS = {"split": "--split", "stream": "--stream", "validation": "--validation"}
ENCODERS = (("rgb", "--rgb"), ("text", "--llm"))  # what a kind of features was made with
NO_DATASETS = ("default", "image", "demo")  # shipped configs that are not called as a data set is
RAW, VIDEOS = "RAW", "VIDEOS"  # folders that a run does not know


def commands_of(run: Run, folder: Path, data: Path, *, with_text: bool = False) -> tuple[Command, ...]:
    """Prepare, extract, train, evaluate: lines for a shell, with what the run does not know in words beside them.

    `data` is what was tested on, `with_text` whether the LLM's answers were read then.
    """
    return (_prepare(run), *_extract(run), _train(run, folder), _evaluate(run, folder, data, with_text=with_text))


def _prepare(run: Run) -> Command:
    known = run.dataset in shipped_names() and run.dataset not in NO_DATASETS
    line = shlex.join(["mmcl", "prepare", run.dataset if known else "folder", RAW, "--out", run.data])
    about = f"the skeletons; {RAW} is where the raw files lie. The same data have the digest {run.skeletons}"
    return Command(line, about if known else f"{about}. Of what kind they were is not known: folder, pyskl or ctrgcn")


def _extract(run: Run) -> Iterator[Command]:
    """One command for all that taught the run; nothing where nothing did."""
    words, own = ["mmcl", "extract-features", run.data, "--videos", VIDEOS], list[str]()
    taught = [(option, _setting(cache, "model")) for kind, option in ENCODERS for cache in run.teachers(kind)]
    words += [word for pair in dict.fromkeys(taught) for word in pair]
    for cache in run.text:
        words += ["--prompt", _setting(cache, "prompt")]
        own.append(f"{_setting(cache, 'prompt')}: “{_setting(cache, 'prompt_text')}”")
    if taught:
        asked = f" The questions were {'; '.join(own)}. Your own come with --prompts FILE.toml." if own else ""
        # a hub's id has an owner, one's own encoder a class; a folder goes by its name
        local = dict.fromkeys(model for _, model in taught if "/" not in model and ":" not in model)
        where = f" {' and '.join(local)}: to be given with the folder's path." if local else ""
        yield Command(shlex.join(words), f"the teachers' features; {VIDEOS} is where the videos lie.{asked}{where}")


def _setting(cache: Mapping[str, Any], name: str) -> str:
    return str(cache.get("settings", {}).get(name, "?"))


def _train(run: Run, folder: Path) -> Command:
    words = ["mmcl", "train", run.data, "--out", str(folder), *config_words(run)]
    words += ["--rgb", str(run.rgb["key"]) if run.rgb else "none", *_text_words(run)]
    if run.start:
        words += ["--init-backbone" if run.start.get("backbone_only") else "--init", str(run.start.get("path"))]
    return Command(shlex.join(words), "the network; killed, the same command goes on")


def _text_words(run: Run) -> list[str]:
    """One cache by its key; of several the model, and every prompt."""
    if len(run.text) < 2:
        return ["--text", str(run.text[0]["key"]) if run.text else "none"]
    prompts = [part for cache in run.text for part in ("--prompt", _setting(cache, "prompt"))]
    return ["--text", _setting(run.text[0], "model"), *prompts]


def config_words(run: Run) -> list[str]:
    """The options that give the run's config on top of the one that is shipped for its data set."""
    usual, wanted = as_dict(base_config(run)), as_dict(run.config)
    words = ["--split", run.config.split, "--stream", run.config.stream]
    for name, value in wanted.items():
        if value == usual[name] or name in ("split", "stream"):
            continue
        if name in OPTIONS:
            words += [OPTIONS[name], str(value)]
        elif name in FLAGS and value:
            words.append(FLAGS[name])
        else:
            words += ["--set", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return words


def base_config(run: Run) -> Config:
    """What `mmcl train` takes where nothing is said but the split."""
    clips = {run.config.split: run.train_clips + run.held_out_clips}
    return make_config(shipped_config(run.dataset, run.coordinates), [{"split": run.config.split}], clips)


def _evaluate(run: Run, folder: Path, data: Path, *, with_text: bool) -> Command:
    moved = ["--data", str(data)] if data != Path(run.data) else []
    line = shlex.join(["mmcl", "evaluate", str(folder), *moved, *(["--with-text"] if with_text else [])])
    reads = "the text cache and heads.safetensors too" if with_text else "skeletons and model.safetensors only"
    return Command(line, f"this report; reads {reads}")
