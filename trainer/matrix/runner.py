"""The cells of a matrix, trained and tested one after another; several processes may work on one matrix at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ...cache.files import write_atomic
from ...cache.lock import locked
from ...cache.skeletons import TEST
from ..loop.checkpoint import Watcher
from ..loop.device import process_device
from ..loop.together import from_main, is_of_all
from ..loop.train import train
from ..plan import Plan, plan
from ..processes import alone
from ..run import Run, refuse_other
from ..testing.evaluate import evaluate
from .cells import Cell, Matrix, Planned
from .picture import draw_matrix
from .results import FAILED, OPEN, TESTED, TRAINED, About, Found, groups_of, left_out_of, result_of, results_of
from .tables import write_csv_of, write_json_of

Watching = Callable[[Run, Path], AbstractContextManager[Watcher]]  # who looks on while a cell trains
Say = Callable[[str], None]
NOT_FINITE = "is not finite"  # in the error of a loss, which is that of all processes


def plan_matrix(matrix: Matrix, progress: Callable[[int, int], None]) -> Planned:
    """The plan of every cell; ValueError for the first that could not end well, before anything is written.

    Cells that are taught by the same features of the same clips share them, and what is known of the skeletons.
    `progress` hears of the plans that differ.
    """
    alike = {cell: _taught(matrix, cell) for cell in matrix.cells}
    known, plans = dict[tuple[str, int | None], Plan](), dict[Cell, Plan]()
    for cell in matrix.cells:
        job, kind = matrix.job_of(cell), alike[cell]
        if kind not in known:
            known[kind] = plan(job)
            progress(len(known), len(set(alike.values())))
        plans[cell] = replace(known[kind], run=replace(known[kind].run, config=job.config))
    planned = Planned(matrix, plans)
    from_main(lambda: _refuse_others(planned))
    return planned


def run_matrix(
    planned: Planned,
    watching: Watching,
    say: Say,
    *,
    stop: Callable[[], bool] = lambda: False,
    device: str | None = None,
) -> Found:
    """Train and test every cell that is not done; all files of the matrix are up to date after each.

    A cell that fails is recorded, and the others go on; run again, it comes last. One that another process is training
    is passed over. `stop` is asked after each step: the cell in flight is saved, and goes on the next time. Raises what
    one of several launched processes fails of alone, as the others can't go on without it. The main one of them tests,
    and the others wait for it, no longer than `device.PATIENCE`.
    """
    cells, busy, stopped = from_main(partial(_in_order, planned)), list[Cell](), False
    for number, cell in enumerate(cells, 1):
        if stopped := from_main(stop):
            break
        work = _Work(cell, planned.matrix.folder(cell), planned.plans[cell])
        named = f"{number}/{len(cells)} {cell.name}"
        if from_main(work.is_done):
            say(f"{named}: done already")
            continue
        say(named)
        try:
            from_main(work.begin)
            if stopped := not work.train(watching, stop, device):
                break
            from_main(partial(work.test, process_device(device)))
        except (ValueError, RuntimeError, OSError) as error:
            if is_busy := isinstance(error, BlockingIOError):
                busy.append(cell)
            else:
                work.record(str(error))
            if not _all_fail(error):
                raise
            say(f"{named}: {'passed over, another process is training it' if is_busy else f'failed: {error}'}")
        from_main(partial(_write, planned))
    return from_main(partial(_found, planned, busy, stopped))


@dataclass(frozen=True)
class _Work:
    """A cell, its folder and its plan."""

    cell: Cell
    folder: Path
    plan: Plan

    @property
    def has_test(self) -> bool:
        return bool(len(self.plan.skeletons.rows(self.plan.run.config.split, TEST)))

    def is_done(self) -> bool:
        return result_of(self.cell, self.folder).status == (TESTED if self.has_test else TRAINED)

    def begin(self) -> None:
        """What an earlier command failed of is forgotten."""
        (self.folder / FAILED).unlink(missing_ok=True)

    def train(self, watching: Watching, stop: Callable[[], bool], device: str | None) -> bool:
        """Whether it is finished."""
        if self.plan.run.config.compile != "off":
            torch.compiler.reset()  # what was compiled for other cells counts against a limit
        with watching(self.plan.run, self.folder) as watcher:
            return train(self.plan, self.folder, watcher, stop=stop, device=device).finished

    def test(self, device: torch.device) -> None:
        if self.has_test:
            skeletons = self.plan.skeletons
            evaluate(self.folder, None, lambda done, total: None, device=device, skeletons=skeletons)
        (self.folder / FAILED).unlink(missing_ok=True)

    def record(self, why: str) -> None:
        """Why it failed, for whoever makes the table; of several processes the first says it, the others lost it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (self.folder / FAILED).open("xb") as file:
            file.write(f"{why}\n".encode(errors="backslashreplace"))


def _taught(matrix: Matrix, cell: Cell) -> tuple[str, int | None]:
    """What decides the clips and the features of a cell: its ablation, and the seed where that chooses among them."""
    config = matrix.job_of(cell).config
    return cell.ablation, cell.seed if config.features == "shuffled" or "." in config.validation else None


def _in_order(planned: Planned) -> list[Cell]:
    """The cells, those that failed before at the end."""
    return sorted(planned.plans, key=lambda cell: (planned.matrix.folder(cell) / FAILED).exists())


def _all_fail(error: Exception) -> bool:
    """Whether all processes fail alike: by what the main one does for all, by a loss over all, or as the only one."""
    return alone() or is_of_all(error) or NOT_FINITE in str(error)


def _refuse_others(planned: Planned) -> None:
    for cell, one in planned.plans.items():
        if (planned.matrix.folder(cell) / "run.json").exists():
            refuse_other(planned.matrix.folder(cell), one.run)


def _found(planned: Planned, busy: Sequence[Cell], stopped: bool) -> Found:
    found = _write(planned)
    still = [result.cell for result in found.results if result.cell in busy and result.status == OPEN]
    return replace(found, elsewhere=still, stopped=stopped, left_out=left_out_of(planned.matrix))


def _write(planned: Planned) -> Found:
    """matrix.csv, matrix.json and matrix.png of all that is there by now, by one process at a time."""
    out, about = planned.matrix.job.out, About.of(next(iter(planned.plans.values())))
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "matrix.lock", wait=True):
        results = results_of(planned.matrix)
        found = Found(out, about, results, groups_of(results))
        write_csv_of(out / "matrix.csv", found)
        write_json_of(out / "matrix.json", found)
        if found.tested:
            write_atomic(out / "matrix.png", lambda aside: draw_matrix(aside, found.groups, about))
    return found
