"""The commands: parse, call one function, print. Heavy imports stay inside them, so that --help answers at once."""

from __future__ import annotations

import signal
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .pipeline.commands import caches, models, show
from .pipeline.data_commands import data as data_sets
from .pipeline.data_commands import prepare
from .pipeline.doctor import doctor
from .pipeline.extract_command import extract_features
from .pipeline.stop import Stop, Stopped
from .trainer import options
from .trainer.inference.command import export
from .trainer.testing.command import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from rich.console import Console

    from .cache.terminal import OnProgress
    from .trainer.matrix.cells import Matrix
    from .trainer.plan import Job

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


@app.callback(invoke_without_command=True)
def top(version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False) -> None:
    if version:
        from . import __version__

        print(f"mmcl {__version__}")
        raise typer.Exit


app.command()(prepare)
app.command("extract-features")(extract_features)


@app.command()
def train(
    data: options.DataDir,
    out: options.Out = None,
    split: options.Split = None,
    stream: options.Streams = None,
    seeds: options.Seeds = None,
    rgb: options.Rgb = None,
    text: options.Text = None,
    prompt: options.Prompts = None,
    config: options.ConfigFile = None,
    setting: options.Settings = None,
    validation: options.Validation = None,
    select_on_test: options.SelectOnTest = False,
    allow_missing: options.AllowMissing = False,
    init: options.Init = None,
    init_backbone: options.InitBackbone = None,
    device: options.Device = None,
    track: options.Track = None,
) -> None:
    """Train a skeleton network against cached features: one, or one a stream and seed. Run again, it resumes."""
    from .trainer.matrix.cells import into, matrix_of, streams_of
    from .trainer.plan import Request, decide

    streams = streams_of(stream) if stream else ()
    flags = {"select_on_test": select_on_test, "allow_missing": allow_missing}
    keys = options.keys(setting, split=split, stream=",".join(streams[:1]), validation=validation, **flags)
    job = decide(Request(data, out, config, keys, rgb, text, prompt or (), *options.start(init, init_backbone)))
    if len(streams) < 2 and seeds is None:
        _train_one(job, device, track or ())
    else:
        _train_all(matrix_of(into(job, out, "matrix"), streams, seeds or 1), device, track or ())


@app.command()
def ablate(
    data: options.DataDir,
    out: options.Out = None,
    split: options.Split = None,
    stream: options.Streams = None,
    seeds: options.Seeds = None,
    rgb: options.Rgb = None,
    text: options.Text = None,
    prompt: options.Prompts = None,
    only: Annotated[str | None, typer.Option(help="Some of them, such as none,FAM,FAM-shuffled.")] = None,
    config: options.ConfigFile = None,
    setting: options.Settings = None,
    validation: options.Validation = None,
    select_on_test: options.SelectOnTest = False,
    allow_missing: options.AllowMissing = False,
    init: options.Init = None,
    init_backbone: options.InitBackbone = None,
    device: options.Device = None,
    track: options.Track = None,
) -> None:
    """What co-learning adds: none, FAM, FRM, both, and both with features that say nothing. Run again, it resumes.

    Such features are constant (each clip's is the mean) or shuffled (another clip's).
    """
    from .trainer.matrix.cells import ablations_of, into, matrix_of, or_none, streams_of
    from .trainer.plan import Request, decide

    streams = streams_of(stream) if stream else ()
    flags = {"select_on_test": select_on_test, "allow_missing": allow_missing}
    keys = options.keys(setting, split=split, stream=",".join(streams[:1]), validation=validation, **flags)
    rgb, text = or_none(data, "rgb", rgb), or_none(data, "text", text)
    job = decide(Request(data, out, config, keys, rgb, text, prompt or (), *options.start(init, init_backbone)))
    matrix = matrix_of(into(job, out, "ablation"), streams, seeds or 1, ablations_of(only, job))
    _train_all(matrix, device, track or ())


app.command()(evaluate)
app.command()(show)
app.command()(export)
app.command()(doctor)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or an .onnx file of `mmcl export`.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Skeleton files of any format that `mmcl prepare` reads; folders, zips, quoted globs; - for paths on "
            "standard input, one a line.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each clip.")] = False,
    top: Annotated[int, typer.Option(min=1, help="So many classes of each clip.")] = 5,
    device: options.Device = None,
) -> None:
    """The most probable classes of skeleton files; one that can't be used is a line with its reason and exit code 1."""
    from . import load_run
    from .pipeline.prediction.answers import Answers, batches, until_unwanted, watched
    from .pipeline.prediction.files import files_named
    from .pipeline.prediction.reader import Read, Wanted
    from .pipeline.prediction.reading import reading

    if sys.stdout is None:
        raise OSError("standard output is closed, where the answers go; give it a file or a terminal")
    found = files_named(files, sys.stdin.buffer if sys.stdin is not None else ())
    network = load_run(run, device)
    wanted = Wanted(network.layout, network.coordinates, network.slots)
    answers = Answers(network.classes, top, json)
    with until_unwanted(answers):
        answers.note(str(network.about))
        with reading(watched(found), wanted) as outcomes:
            for batch in batches(outcomes):
                clips = [read.joints for read in batch if isinstance(read, Read)]
                answers.show(batch, network.probabilities(clips))
        answers.note(answers.summary)
    if answers.unread:
        raise typer.Exit(FAILURE)


@models.command()
def backbones() -> None:
    """The skeleton networks: parameters, multiply-adds a clip, and where each is from."""
    from .cache.terminal import new_console
    from .pipeline.preparation.layouts import KINECT_V2
    from .trainer.backbones.cost import backbone_table

    new_console().print(backbone_table(KINECT_V2))


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo")) -> None:
    """The whole way in about two minutes, on data and tiny models that it makes itself."""
    from .pipeline.demo.whole_way import show_whole_way
    from .trainer.testing.command import test_runs

    show_whole_way(
        out,
        lambda data, run, rgb, text: train(data, run, rgb=rgb, text=text),
        lambda run: test_runs([run], None)[0].metrics,
    )


def _train_one(job: Job, device: str | None, track: Sequence[str]) -> None:
    from .cache.terminal import say
    from .pipeline.stop import clean_stop
    from .trainer.loop.train import train as run_train
    from .trainer.plan import plan
    from .trainer.report import kept_line, plan_lines, watched

    console, where, planned = _planned(device, lambda progress: plan(job, progress))
    for line in (f"config: {job.config_file}", *plan_lines(planned, where)):
        say(console, line)
    done = "trained already; " if (job.out / "model.safetensors").exists() else ""
    with clean_stop() as stop, watched(console, track, planned.run, job.out) as watcher:
        state = run_train(planned, job.out, watcher, stop=stop, device=device)
    if not state.finished:
        say(console, f"{state.kept_in_words} is kept in {job.out}")
        raise _stopped(stop)
    say(console, f"{done}{kept_line(state, planned.run)}; written: {job.out}\nnext: mmcl evaluate {job.out}")


def _train_all(matrix: Matrix, device: str | None, track: Sequence[str]) -> None:
    from .cache.terminal import say
    from .pipeline.stop import clean_stop
    from .trainer.matrix.runner import plan_matrix, run_matrix
    from .trainer.matrix.tables import matrix_lines, matrix_table, note_lines
    from .trainer.report import watched

    console, where, planned = _planned(device, lambda progress: plan_matrix(matrix, progress))
    for line in matrix_lines(planned, where):
        say(console, line)
    with clean_stop() as stop:
        watching = partial(watched, console, track)
        found = run_matrix(planned, watching, partial(say, console), stop=stop, device=device)
    console.print(matrix_table(found.groups, found.about))
    for line in note_lines(found):
        say(console, line)
    if found.stopped:
        raise _stopped(stop)
    if found.failed:
        raise typer.Exit(FAILURE)


def _planned(device: str | None, plan: Callable[[OnProgress], Any]) -> tuple[Console, torch.device, Any]:
    """Where the main process prints, what this one computes on, and a plan; a bar is shown while features are read."""
    from .cache.terminal import bars, new_console
    from .trainer.loop.device import process_device
    from .trainer.processes import share

    where = process_device(device)  # before anything else: it joins the processes that a launcher started
    console = new_console(quiet=not share().main)
    with bars(console) as bar:
        shown = cache(lambda: bar("features checked"))
        return console, where, plan(lambda done, total: shown()(done, total))


def _stopped(stop: Stop) -> Stopped:
    """Stopped by a signal to this process, or under a launcher to another."""
    number = stop.signal or signal.SIGTERM
    return Stopped("stopped, and what was trained is kept; run the same command again, it goes on", 128 + number)


def main() -> None:
    """Run the command line: an error is one clear line, 2 for wrong use and 1 for failure."""
    try:
        app()
    except (ValueError, FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        _fail(error, WRONG_USE)
    except (OSError, RuntimeError) as error:
        _fail(error, FAILURE)
    except MemoryError:
        _fail(RuntimeError("memory is too short for this; close other programs, or take a smaller batch"), FAILURE)
    except Stopped as error:
        _fail(error, error.code)


def _fail(error: Exception, code: int) -> None:
    from .cache.terminal import error_text
    from .pipeline.launched import is_said

    line = f"mmcl: {error_text(error)}"
    if not is_said(line):
        print(line, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
