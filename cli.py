"""The commands: parse, call one function, print. Heavy imports stay inside them, so that --help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .pipeline.commands import caches, models, show
from .pipeline.data_commands import data as data_sets
from .pipeline.data_commands import prepare
from .pipeline.encoders.prompts import PROMPTS
from .pipeline.stop import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from .pipeline.report import OnProgress
    from .trainer.testing.evaluate import Evaluation

app = typer.Typer(
    help="Skeleton-based action recognition with multi-modality co-learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(caches, name="cache")
app.add_typer(models, name="models")
app.add_typer(data_sets, name="data")

WRONG_USE, FAILURE = 2, 1

DataDir = Annotated[Path, typer.Argument(metavar="DATA", help="A data set's folder, made by `mmcl prepare`.")]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help=f"What to ask the LLM: {', '.join(PROMPTS)}, or one of --prompts; may be repeated; "
        "holding-object if not given.",
    ),
]


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False) -> None:
    if version:
        from . import __version__

        print(f"mmcl {__version__}")
        raise typer.Exit


app.command()(prepare)


@app.command("extract-features")
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
    from .pipeline.extraction.plan import Request
    from .pipeline.extraction.shard import find_device, find_shard
    from .pipeline.extraction.stage import extract_features as run_extract
    from .pipeline.extraction.wanted import choose_prompts
    from .pipeline.report import bars, new_console, note_failures, say, show_extraction
    from .pipeline.stop import clean_stop

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


@app.command()
def train(
    data: DataDir,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/DATASET-SPLIT-STREAM if not given.")] = None,
    split: Annotated[str | None, typer.Option(help="A split that the data names, such as xsub.")] = None,
    stream: Annotated[str | None, typer.Option(help="joint, bone, joint-motion or bone-motion.")] = None,
    rgb: Annotated[str | None, typer.Option(help="RGB features: a model, a cache key, or none.")] = None,
    text: Annotated[str | None, typer.Option(help="Text features: a model, a cache key, or none.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Which prompt's text features.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file; the one shipped for the data set if not given.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config; may be repeated."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="SUBJECTS|FRACTION", help="Training subjects (3,7) or a share of them (0.2) to choose the epoch on."
        ),
    ] = None,
    select_on_test: Annotated[
        bool, typer.Option("--select-on-test", help="Choose the epoch on the test split; labelled in every output.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Clips whose features failed train on the classification loss only.")
    ] = False,
) -> None:
    """Train a skeleton network against cached features. Run again, it resumes."""
    from .pipeline.report import bars, new_console, say
    from .trainer.config import parse_setting
    from .trainer.loop.train import train as run_train
    from .trainer.plan import Request, decide, plan
    from .trainer.report import epoch_line, kept_line, plan_lines

    options = {"split": split, "stream": stream, "validation": validation}
    flags = {"select_on_test": select_on_test, "allow_missing": allow_missing}
    given = {name: value for name, value in {**options, **flags}.items() if value not in (None, False)}
    settings = [*map(parse_setting, setting or ()), given]
    job = decide(Request(data, out, config, settings, rgb, text, prompt))
    planned, console = plan(job), new_console()
    say(console, f"config: {job.config_file}")
    for line in plan_lines(planned):
        say(console, line)
    finished = (job.out / "model.safetensors").exists()
    with bars(console) as bar:
        state = run_train(planned, job.out, bar("steps"), lambda line: say(console, epoch_line(line, planned.run)))
    done = "trained already; " if finished else ""
    say(console, f"{done}{kept_line(state, planned.run)}; written: {job.out}\nnext: mmcl evaluate {job.out}")


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that `mmcl train` made.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Another folder of the same data set, where it has moved; with --transfer another."),
    ] = None,
    transfer: Annotated[
        bool,
        typer.Option(
            "--transfer",
            help="Test on the classes that --data shares with what was trained on: zero-shot and domain-adaptive "
            "recognition, as the paper calls it (docs/transfer.md).",
        ),
    ] = False,
) -> None:
    """Test runs on skeletons only: no feature cache is read, no big model is loaded."""
    if not transfer:
        _evaluate(runs, data)
    elif data:
        _transfer(runs, data)
    else:
        raise ValueError("--transfer tests on another data set: say which with --data, such as --data data/utd-mhad")


app.command()(show)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo")) -> None:
    """The whole way in about two minutes, on data and tiny models that it makes itself."""
    from .cache.store import move_caches
    from .pipeline.demo.synthetic import make_dataset
    from .pipeline.demo.tiny import build_tiny
    from .pipeline.report import DEMO_END, bars, demo_table, new_console, say

    console = new_console()

    def step(text: str) -> None:
        say(console, f"\n{text}", "bold")

    raw, data, run, aside = out / "raw", out / "data" / "demo", out / "run", out / "caches-moved-away"
    move_caches(aside, data)  # back, where a demo was killed in between
    step("1. Made here: articulated skeletons acting out 6 classes, and videos rendered from them")
    with bars(console) as bar:
        make_dataset(raw, progress=bar("clips"))
    prepare("folder", raw, data)
    step("2. Stage one: features from tiny models with random weights. They know nothing; yours will.")
    models = {name: str(build_tiny(name, out / "models")) for name in ("tiny-resnet", "tiny-blip-vqa", "tiny-llava")}
    extract_features(data, raw / "videos", models["tiny-resnet"], models["tiny-blip-vqa"], person="frame")
    step("3. Stage two: CTR-GCN against the cached features")
    train(data, run, rgb="tiny-resnet", text="tiny-blip-vqa")
    step(f"4. Evaluation, with the feature caches moved away to {aside}")
    move_caches(data, aside)
    try:
        result = _evaluate([run], None)[0]
    finally:
        move_caches(aside, data)
    step("5. Another LLM: person images and RGB features stay as they are, no video is opened")
    extract_features(data, rgb=models["tiny-resnet"], llm=models["tiny-llava"])
    console.print(demo_table(result.metrics.top1, result.metrics.chance, result.metrics.clips))
    say(console, DEMO_END.format(data=data, run=run, raw=raw))


def _evaluate(runs: list[Path], data: Path | None) -> list[Evaluation]:
    from .trainer.report import class_table, result_table
    from .trainer.run import read_run
    from .trainer.testing.evaluate import evaluate as run_evaluate

    _ = [read_run(run) for run in runs]  # a wrong name among several is said before the first is tested
    return [_tested(lambda bar, run=run: run_evaluate(run, data, bar), (class_table, result_table)) for run in runs]


def _transfer(runs: list[Path], data: Path) -> None:
    from .trainer.testing.transfer import evaluate_transfer
    from .trainer.testing.transfer_report import transfer_class_table, transfer_table

    for run in runs:
        _tested(lambda bar, run=run: evaluate_transfer(run, data, bar), (transfer_class_table, transfer_table))


def _tested(test: Callable[[OnProgress], Any], tables: Sequence[Callable[[Any], Table]]) -> Any:
    """The result of a test, shown: its tables, what to know beside them, and where it was written."""
    from .pipeline.report import bars, new_console, say

    console = new_console()
    with bars(console) as bar:
        result = test(bar("test clips"))
    for table in tables:
        console.print(table(result))
    for note in result.notes:
        say(console, note)
    say(console, f"written: {result.folder}")
    return result


def main() -> None:
    """Run the command line: an error is one clear line, 2 for wrong use and 1 for failure."""
    try:
        app()
    except (ValueError, FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        _fail(error, WRONG_USE)
    except (OSError, RuntimeError) as error:
        _fail(error, FAILURE)
    except Stopped as error:
        _fail(error, error.code)


def _fail(error: Exception, code: int) -> None:
    from .pipeline.report import error_text

    print(f"mmcl: {error_text(error)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
