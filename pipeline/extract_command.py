"""`mmcl extract-features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .encoders.prompts import PROMPTS

FAILURE = 1

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help=f"What to ask the LLM: {', '.join(PROMPTS)}, or one of --prompts; may be repeated; "
        "holding-object if not given.",
    ),
]


def extract_features(
    data: DataDir,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the videos, or of folders of frames; not needed for what is cached.")
    ] = None,
    rgb: Annotated[str | None, typer.Option(help="RGB or video encoder: a hub id, a folder, or module:Class.")] = None,
    llm: Annotated[str | None, typer.Option(help="Multimodal LLM: a hub id, a folder, or module:Class.")] = None,
    prompt: Prompts = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A TOML file of your own prompts; all are asked, or those named by --prompt.")
    ] = None,
    video_pattern: Annotated[
        str | None,
        typer.Option(help="Where a clip's video lies under --videos, such as 'S{setup:03}/{name}_rgb.avi'."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            help="skeleton (joints' places in the picture), a detector (hub id or folder), or frame for whole frames; "
            "if not given, skeleton where the data has them, else hustvl/yolos-tiny."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Clips a batch; halved where memory is short.")] = 16,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="This process's share: 0/8 to 7/8. torchrun needs none.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Make the rows of failed clips anew, once the clips are mended.")
    ] = False,
    accept_versions: Annotated[
        bool, typer.Option("--accept-versions", help="Go on with a cache that other library versions began.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Such as cpu or cuda:1, or auto to spread an LLM; the accelerator if not given.")
    ] = None,
) -> None:
    """Videos to caches of person images, RGB features and text features. Run again, it resumes."""
    from ..cache.terminal import bars, new_console, say
    from .extraction.plan import Request
    from .extraction.shard import find_device, find_shard
    from .extraction.stage import extract_features as run_extract
    from .extraction.wanted import choose_prompts
    from .report import note_failures, show_extraction
    from .stop import Stopped, clean_stop

    if (prompt or prompts) and not llm:
        raise ValueError("--prompt and --prompts are questions to a language model; say which with --llm")
    asked, share = choose_prompts(prompt, prompts), find_shard(shard)
    console, where = new_console(quiet=share.local > 0), find_device(device, share)
    request = Request(
        data, videos, person, rgb, llm, asked, batch, where, share, retry_failed, accept_versions, video_pattern
    )
    with clean_stop() as stop, bars(console) as bar:
        extraction = run_extract(request, bar, stop, lambda line: say(console, line, "yellow"))
    show_extraction(console, extraction)
    if stop.signal and extraction.missing:
        raise Stopped("stopped after a whole unit; run the same command again, it goes on", 128 + stop.signal)
    failed = note_failures(console, extraction, data / "failures.csv")
    if failed and not extraction.missing:  # one rank's exit code would be the end of torchrun's other ranks
        raise typer.Exit(FAILURE)
