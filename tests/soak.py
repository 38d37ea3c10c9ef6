"""Real processes of `mmcl`, forked from a parent that has imported everything and computed nothing; and the soak.

    python tests/soak.py [KILLS]     two writers on one data set, killed by kill -9 at random moments so many times

A process starts in a few milliseconds so, and dies as any other: what a kill leaves is what a user would find.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

UNIT, BATCH = 4, 3  # clips
PATIENCE, LONG = 100.0, 600.0  # seconds that a process may take, and that none takes
PAUSE = 0.03  # seconds more for every file and folder that is written to the disk, so that many a kill comes meanwhile
MIXING = "own:Mixing"
ENCODERS = '''
import os
import time
from pathlib import Path

import numpy as np


class Mixing:
    """Its rows depend on the whole batch, as those of a large model do in their last digits."""

    settings, layout = {"model": "mixing"}, "strip"

    def __init__(self, device):
        pass

    def encode(self, images):
        means = np.array([image.reshape(-1, 3).mean(0) for image in images], np.float32)
        with open("encoded.log", "a") as log:
            log.write(f"{len(images) * (means.std() > 0)}\\n")
        return {"feature": means + means.mean(0) / 8 + len(images)}


class Gated(Mixing):
    """While there is a file `gate`, it makes as many batches as that says, and waits at the next."""

    settings, batches = {"model": "gated"}, 0

    def encode(self, images):
        trial = len(images) == 1 and (images[0] == 127).all()
        Path(f"rank-{os.environ.get('RANK', 0)}").write_text(str(os.getpid()))
        while not trial and Path("gate").exists() and self.batches >= int(Path("gate").read_text()):
            time.sleep(0.005)
        self.batches += not trial
        return super().encode(images)
'''


@dataclass
class Writer:
    """One `mmcl` that runs, or ran."""

    pid: int
    server: Writers
    said: Path
    status: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, or minus the signal that ended it."""
        if self.status is None:
            self.status = self.server.ask(wait=self.pid)
        return self.status

    @property
    def out(self) -> str:
        return self.said.with_suffix(".out").read_text()

    @property
    def error(self) -> str:
        return self.said.with_suffix(".err").read_text()


class Writers:
    """The parent of such processes, itself a child that has no threads."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, list[Writer]()
        alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=alone
        )

    def start(self, cwd: Path, words: Sequence[object], *, pause: float = 0.0, hold: str = "") -> Writer:
        """`mmcl WORDS` in a folder, with units of four clips and `pause` seconds more for every file it writes.

        It stops for ever, in the next write to the disk, once files are there that `hold` says: "PATTERN COUNT".
        """
        said = self._folder / f"writer-{len(self._started)}"
        asked = {"words": list(map(str, words)), "cwd": str(cwd), "said": str(said), "pause": pause, "hold": hold}
        self._started.append(Writer(self.ask(start=asked), self, said))
        return self._started[-1]

    def ask(self, **request: Any) -> int:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the parent and, where a test has failed, what it left at work."""
        for writer in self._started:
            if writer.status is None:
                writer.kill()
        self._process.communicate()


# -- the parent's side


def serve() -> None:
    """Fork and wait for processes as the lines on stdin say; answers a number a line."""
    from mmcl import cli  # noqa: F401 - what every child would import
    from mmcl.pipeline import commands, report, stop  # noqa: F401
    from mmcl.pipeline.encoders import encoder  # noqa: F401
    from mmcl.pipeline.extraction import plan, stage  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(status_of(request["wait"]), flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            run(request["start"])


def status_of(child: int) -> int:
    """How a child ended; one that does not end is killed."""
    until = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(ended[1])


def run(asked: Mapping[str, Any]) -> None:
    """Become the `mmcl` that was asked for."""
    code = 70
    try:
        for number, path in enumerate((os.devnull, f"{asked['said']}.out", f"{asked['said']}.err")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        os.chdir(asked["cwd"])
        become_small(asked["pause"], asked["hold"])
        from mmcl.cli import main

        sys.argv = ["mmcl", *asked["words"]]
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def become_small(pause: float, hold: str) -> None:
    """Units of a few clips, slow writes, and a line in `written.log` as each unit begins to be written."""
    from mmcl.pipeline.extraction import ledger, shard

    shard.UNIT = UNIT
    fsync, write = os.fsync, ledger.write_part
    pattern, _, count = hold.partition(" ")

    def slow(handle: int) -> None:
        time.sleep(pause)
        if hold and len(list(Path().glob(pattern))) >= int(count):
            Path("held").touch()
            time.sleep(LONG)
        fsync(handle)

    def noted(folder: Path, unit: int, *rest: Any) -> Path:
        with Path("written.log").open("a") as log:
            log.write(f"{folder.parent.name} {unit}\n")
        return write(folder, unit, *rest)

    os.fsync, ledger.write_part = slow, noted


# -- a life: writers are killed until all is made


@dataclass
class Life:
    """One data set in a folder of its own, from the first writer to the last."""

    folder: Path
    videos: Path
    names: Sequence[str]
    data: Path
    kills: Counter[str] = field(default_factory=Counter)  # by writer
    seconds: float = 0.0  # that it took

    def words(self, *more: str) -> list[object]:
        asked = ["extract-features", self.data, "--videos", self.videos, "--person", "frame", "--rgb", MIXING]
        return [*asked, "--batch", BATCH, "--device", "cpu", *more]

    def parts(self) -> dict[Path, tuple[int, int]]:
        """What tells a part from one that was written again."""
        found = {path: path.stat() for path in self.data.glob("*/*/parts/*.h5")}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


def begin(folder: Path, videos: Path, names: Sequence[str]) -> Life:
    from mmcl.tests.loop import write_names

    folder.mkdir()
    (folder / "own.py").write_text(ENCODERS)
    write_names(folder / "data", names)
    return Life(folder, videos, names, folder / "data")


def kill_both(life: Life, writers: Writers, rng: np.random.Generator, longest: float) -> int:
    """Two writers, each killed at a random moment; gives how many of them were still at work. No part is touched."""
    before = life.parts()
    running = {share: writers.start(life.folder, life.words("--shard", share), pause=PAUSE) for share in ("0/2", "1/2")}
    started, killed = time.monotonic(), 0
    for share, moment in sorted(((share, rng.uniform(0, 0.8 * longest)) for share in running), key=lambda one: one[1]):
        time.sleep(max(0.0, started + moment - time.monotonic()))
        running[share].kill()
    for share, writer in running.items():
        code = writer.wait()
        assert code in (0, -signal.SIGKILL), (code, writer.error)
        life.kills[share] += code != 0
        killed += code != 0
    after = life.parts()
    merged = {path.parent for path in life.data.glob("*/*/cache.h5")}
    assert {path: seen for path, seen in before.items() if path.parent.parent not in merged}.items() <= after.items()
    return killed


def finish(life: Life, writers: Writers) -> None:
    for share in ("1/2", "0/2"):
        writer = writers.start(life.folder, life.words("--shard", share))
        assert writer.wait() == 0, writer.error


def check(life: Life, unbroken: Life) -> int:
    """Every promise that a kill could break; gives how many units were written twice."""
    from mmcl.cache.store import find_caches, open_cache, verify
    from mmcl.cache.table import read_table
    from mmcl.tests.loop import columns_of

    for kind in ("person-images", "rgb"):
        (folder,) = find_caches(life.data, kind)
        rows, wanted = open_cache(folder), unbroken.data / kind / folder.name
        assert rows.names == sorted(set(life.names))
        assert rows.failures == {}
        assert verify(folder) == []
        assert columns_of(rows) == columns_of(open_cache(wanted))
        said = [read_table(one / "cache.h5")[1] for one in (folder, wanted)]
        for one in said:
            one.pop("device_ms", None)  # time is no promise
        assert said[0] == said[1]
        left = [path.name for path in folder.rglob("*") if path.suffix in (".h5", ".tmp")]
        assert left == ["cache.h5"], left
    begun = Counter((life.folder / "written.log").read_text().splitlines())
    again = Counter[tuple[str, str]]()
    for line, times in begun.items():
        kind, unit = line.split()
        again[kind, f"{int(unit) % 2}/2"] += times - 1
    assert all(count <= life.kills[share] for (_, share), count in again.items()), (again, life.kills)
    encoded = sum(map(int, (life.folder / "encoded.log").read_text().split()))
    assert encoded <= len(life.names) + UNIT * life.kills.total()
    return sum(again.values())


def live(life: Life, writers: Writers, *encoders: str) -> Life:
    """A life without a kill: one writer makes all."""
    started = time.monotonic()
    for encoder in encoders:
        words = [encoder if word == MIXING else word for word in life.words()]
        alone = writers.start(life.folder, words, pause=PAUSE)
        assert alone.wait() == 0, alone.error
    life.seconds = (time.monotonic() - started) / len(encoders)
    return life


def soak(kills: int, work: Path, unbroken: Life, writers: Writers, seed: int = 0) -> str:
    """So many kills, in as many lives as it takes; gives a line about them. AssertionError where anything was lost."""
    rng = np.random.default_rng(seed)
    done = lives = twice = 0
    while done < kills:
        life = begin(work / f"life-{lives}", unbroken.videos, unbroken.names)
        for _ in range(rng.integers(1, 7)):
            done += kill_both(life, writers, rng, unbroken.seconds)
            if done >= kills:
                break
        finish(life, writers)
        twice += check(life, unbroken)
        shutil.rmtree(life.folder)
        lives += 1
    return f"{done} kills in {lives} lives: nothing lost, {twice} units in flight made again"


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    from mmcl.pipeline.demo.synthetic import make_dataset

    with tempfile.TemporaryDirectory() as folder:
        work, writers = Path(folder), Writers(Path(folder))
        make_dataset(work / "raw", performers=4, trials=1)
        names = sorted(path.stem for path in (work / "raw" / "videos").iterdir())
        try:
            unbroken = live(begin(work / "unbroken", work / "raw" / "videos", names), writers, MIXING)
            print(soak(int((sys.argv[1:] or ["50"])[0]), work, unbroken, writers))
        finally:
            writers.close()


if __name__ == "__main__":
    main()
