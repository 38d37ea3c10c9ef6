"""Every key of the config with its type, default, choices and the comment beside it, and the shipped files."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmcl.trainer import config
from mmcl.trainer.backbones import BACKBONES
from mmcl.trainer.colearning.classify import CLASSIFY

from .tables import code, table

CHOICES = {**config.CHOICES, "refine_features": config.TEXT_FEATURES, "backbone": BACKBONES, "loss": CLASSIFY}


class Key(NamedTuple):
    """A key as config.py has it: its type in words, its default as TOML writes it, and what the comment says."""

    name: str
    kind: str
    default: str
    comment: str


def config_markdown() -> str:
    source = Path(config.__file__).read_text()
    return keys_table(keys_of(source), CHOICES)


def shipped_markdown() -> str:
    """The shipped configs, each whole."""
    files = [config.SHIPPED / f"{name}.toml" for name in config.shipped_names()]
    return "\n".join(f"### {path.name}\n\n```toml\n{path.read_text().rstrip()}\n```\n" for path in files)


def keys_table(keys: Sequence[Key], choices: Mapping[str, Sequence[str] | Mapping[str, object]]) -> str:
    rows = []
    for key in keys:
        allowed = f" One of {', '.join(map(code, choices[key.name]))}." if key.name in choices else ""
        rows.append((code(key.name), key.kind, code(key.default), f"{_sentence(key.comment)}{allowed}"))
    return table(("key", "type", "default", "what it is"), rows)


def keys_of(source: str) -> list[Key]:
    """The keys of the class Config in a module's source; ValueError for one that no comment explains.

    Its comment stands behind it, or in lines of its own above it.
    """
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Config")
    comments, alone = _comments(source)
    keys = []
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            comment = comments.get(node.end_lineno or node.lineno) or _above(node.lineno, alone)
            if not comment:
                raise ValueError(f"config key {node.target.id}, line {node.lineno}: no comment says what it is")
            default = _toml(ast.literal_eval(node.value))
            keys.append(Key(node.target.id, _kind(ast.unparse(node.annotation)), default, comment))
    return keys


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Comments behind code and comments in lines of their own, by line."""
    behind, alone = dict[int, str](), dict[int, str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            place = behind if token.line[: token.start[1]].strip() else alone
            place[token.start[0]] = token.string.lstrip("# ")
    return behind, alone


def _above(line: int, alone: Mapping[int, str]) -> str:
    said: list[str] = []
    while line - 1 in alone:
        line -= 1
        said.insert(0, alone[line])
    return " ".join(said)


def _kind(annotation: str) -> str:
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    if annotation in names:
        return names[annotation]
    item, _, length = annotation.removeprefix("tuple[").removesuffix("]").partition(", ")
    count = "" if length == "..." else f"{annotation.count(item)} "
    return f"list of {count}{names[item].replace('number', 'numbers').replace('text', 'texts')}"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _sentence(text: str) -> str:
    """With a capital, but for a name that begins it as `crop: a stretch ...` does, and a full stop."""
    first = text if text.split()[0].endswith((":", "_ids")) else text[0].upper() + text[1:]
    return first if first.endswith(".") else f"{first}."
