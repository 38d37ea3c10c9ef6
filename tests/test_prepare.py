"""Raw files to a skeleton cache: what is read, what is odd, what is refused."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
from rich.console import Console
from scipy.io import savemat

from mmcl.cache.lock import locked
from mmcl.cache.mapped import map_table
from mmcl.cache.skeletons import TEST, TRAIN, read_skeletons
from mmcl.cache.table import Ragged, damaged_rows
from mmcl.pipeline.datasets import DATASETS, open_dataset, place_of
from mmcl.pipeline.preparation.dataset import RawDataset
from mmcl.pipeline.preparation.prepare import Finding, Prepared, RawClip, prepare
from mmcl.pipeline.preparation.raw import RawFile
from mmcl.pipeline.preparation.units import SMALLEST, units_of
from mmcl.pipeline.report import data_table, finding_lines
from mmcl.pipeline.stop import Stop, Stopped

REAL = Path(os.environ.get("MMCL_REAL_DATA", "absent"))
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="MMCL_REAL_DATA names no folder with nw_ucla and utd_mhad")


def nothing(done: int, total: int) -> None:
    pass


def run(name: str, raw: Path, out: Path) -> Prepared:
    return prepare(name, open_dataset(name, raw), out, nothing)


def write_nw_ucla(folder: Path, name: str, frames: int, label: int, spoilt: dict | None = None) -> np.ndarray:
    folder.mkdir(exist_ok=True, parents=True)
    joints = np.random.default_rng(len(name) + frames).normal(size=(frames, 20, 3))
    for place, value in (spoilt or {}).items():
        joints[place] = value
    text = json.dumps({"file_name": name, "skeletons": joints.tolist(), "label": label})
    (folder / f"{name}.json").write_text(text)
    return joints


def test_nw_ucla_keeps_frames_labels_subjects_and_views(tmp_path):
    joints = write_nw_ucla(tmp_path / "raw", "a12_s07_e02_v03", 9, 10)
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 4, 1)
    run("nw-ucla", tmp_path / "raw", tmp_path / "out")
    found = read_skeletons(tmp_path / "out" / "skeletons.h5")
    assert found.names == ("a01_s01_e00_v01", "a12_s07_e02_v03")
    assert found.labels.tolist() == [0, 9]
    assert found.frames.tolist() == [4, 9]
    np.testing.assert_array_equal(found.joints[1], joints.astype(np.float32))
    assert {name: values.tolist() for name, values in found.columns.items()} == {
        "subject": [1, 7],
        "view": [1, 3],
        "trial": [0, 2],
    }
    assert found.rows("xview", TRAIN).tolist() == [0]
    assert found.rows("xview", TEST).tolist() == [1]


def test_every_odd_file_is_named_with_what_was_done(tmp_path):
    raw = tmp_path / "raw"
    write_nw_ucla(raw, "a01_s01_e00_v01", 5, 1)
    write_nw_ucla(raw, "a01_s01_e01_v01", 1, 1)
    write_nw_ucla(raw, "a01_s01_e02_v01", 5, 11)
    write_nw_ucla(raw, "a01_s01_e03_v03", 5, 1, {(2, 4, 0): np.nan})
    (raw / "a01_s01_e04_v01.json").write_text("{ not json")
    (raw / "a01_s01_e05_v01.json").write_text(json.dumps({"skeletons": [[[1, 2]]], "label": 1}))
    found = run("nw-ucla", raw, tmp_path / "out")
    odd = {finding.file: (finding.found, finding.done) for finding in found.findings}
    assert odd["a01_s01_e01_v01.json"] == ("1 frame", "kept; it has no motion")
    assert odd["a01_s01_e02_v01.json"] == ("label 11 out of range 1..10", "left out")
    assert odd["a01_s01_e03_v03.json"] == ("NaN or Inf in 1 frames", "last good value of the joint kept")
    assert odd["a01_s01_e04_v01.json"][1] == odd["a01_s01_e05_v01.json"][1] == "left out"
    assert len(odd) == 5
    assert found.skeletons.names == ("a01_s01_e00_v01", "a01_s01_e01_v01", "a01_s01_e03_v03")
    with (tmp_path / "out" / "findings.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == set(odd)


def test_nan_becomes_the_joints_last_good_value(tmp_path):
    joints = write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1, {(2, 4, 0): np.nan, (0, 7, 1): np.inf})
    found = run("nw-ucla", tmp_path / "raw", tmp_path / "out").skeletons.joints[0]
    np.testing.assert_array_equal(found[2, 4], joints[1, 4].astype(np.float32))
    np.testing.assert_array_equal(found[0, 7], joints[1, 7].astype(np.float32))
    assert np.isfinite(found).all()


def test_counts_that_differ_from_the_published_are_a_warning(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    warnings = "\n".join(run("nw-ucla", tmp_path / "raw", tmp_path / "out").warnings)
    assert "xview: 1 train / 0 test, published are 1,020 / 464" in warnings
    named = "pick up with two hands, drop trash, walk around, sit down, stand up and 4 more"
    assert f"no clip of 9 classes: {named}" in warnings


def test_utd_mhad_reads_matlab_files_and_names_the_damaged(tmp_path):
    joints = np.random.default_rng(0).normal(size=(20, 3, 6))
    savemat(tmp_path / "a27_s4_t1_skeleton.mat", {"d_skel": joints})
    savemat(tmp_path / "a3_s1_t2_skeleton.mat", {"d_skel": joints})
    savemat(tmp_path / "a3_s1_t3_skeleton.mat", {"other": joints})
    (tmp_path / "a3_s1_t4_skeleton.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    found = run("utd-mhad", tmp_path, tmp_path / "out")
    assert found.skeletons.names == ("a27_s4_t1", "a3_s1_t2")
    assert found.skeletons.labels.tolist() == [26, 2]
    assert found.skeletons.splits["xsub"].sides.tolist() == [TEST, TRAIN]
    np.testing.assert_array_equal(found.skeletons.joints[0], joints.transpose(2, 0, 1).astype(np.float32))
    assert [finding.file for finding in found.findings] == ["a3_s1_t3_skeleton.mat", "a3_s1_t4_skeleton.mat"]


@real_data
@pytest.mark.parametrize(
    ("name", "folder", "clips"), [("nw-ucla", "nw_ucla", 1484), ("utd-mhad", "utd_mhad", 861)], ids=["nw-ucla", "utd"]
)
def test_the_real_data_sets_have_their_published_counts(name, folder, clips, tmp_path):
    found = run(name, REAL / folder, tmp_path / "out")
    assert len(found.skeletons.names) == clips
    assert found.warnings == []
    assert {finding.found for finding in found.findings} <= {"1 frame"}


@pytest.mark.parametrize("name", DATASETS)
def test_missing_and_empty_folders_are_refused(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run(name, tmp_path / "absent", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no"):
        run(name, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_data_sets_files_are_refused_with_what_was_there(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    with pytest.raises(ValueError, match=r"holds no UTD-MHAD skeletons .*; found 1 \.json"):
        run("utd-mhad", tmp_path / "raw", tmp_path / "out")


def test_one_folder_holds_one_data_set(tmp_path, data):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 1)
    before = (data / "skeletons.h5").read_bytes()
    with pytest.raises(ValueError, match="holds the skeletons of acted; give nw-ucla another --out"):
        run("nw-ucla", tmp_path / "raw", data)
    assert (data / "skeletons.h5").read_bytes() == before


def test_nothing_is_written_where_no_file_could_be_used(tmp_path):
    write_nw_ucla(tmp_path / "raw", "a01_s01_e00_v01", 5, 99)
    with pytest.raises(ValueError, match=r"not one of 1 files could be used; .*label 99 out of range 1\.\.10"):
        run("nw-ucla", tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_data_set_registered_is_a_data_set_prepared(tmp_path, raw, monkeypatch):
    """A new entry in the registry needs nothing else."""
    monkeypatch.setitem(DATASETS, "mine", DATASETS["folder"])
    assert len(run("mine", raw, tmp_path / "out").skeletons.names) == 24


def many(folder: Path, count: int) -> Path:
    for number in range(count):
        write_nw_ucla(folder, f"a01_s{number // 100:02}_e{number % 100:02}_v0{1 + number % 3}", 3, 1 + number % 10)
    return folder


def same(left: Path, right: Path) -> bool:
    """Whether two caches hold the same rows, checksums among them."""
    one, other = (map_table(path / "skeletons.h5")[0] for path in (left, right))
    same = one.keys() == other.keys()
    for name, column in one.items():
        pair = (column, other[name])
        arrays = [(c.values, c.offsets) if isinstance(c, Ragged) else (c,) for c in pair]
        same = same and all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))
    return same


def test_several_processes_make_the_same_rows(tmp_path):
    raw = open_dataset("nw-ucla", many(tmp_path / "raw", 100))
    prepare("nw-ucla", raw, tmp_path / "one", nothing, jobs=1)
    prepare("nw-ucla", raw, tmp_path / "two", nothing, jobs=2)
    assert same(tmp_path / "one", tmp_path / "two")
    assert not damaged_rows(tmp_path / "two" / "skeletons.h5")


def test_run_again_nothing_is_read(tmp_path):
    raw = many(tmp_path / "raw", 20)
    (raw / "a01_s09_e00_v01.json").write_text("{ not json")
    first = run("nw-ucla", raw, tmp_path / "out")
    before = (tmp_path / "out" / "skeletons.h5").stat().st_mtime_ns
    again = run("nw-ucla", raw, tmp_path / "out")
    assert (tmp_path / "out" / "skeletons.h5").stat().st_mtime_ns == before
    assert again.again and not first.again
    assert (again.findings, again.warnings, again.counts) == (first.findings, first.warnings, first.counts)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["findings.csv", "skeletons.h5"]


def test_folders_that_change_places_are_read_again(tmp_path):
    """The files' names, sizes and times stay as they were."""
    raw, when = tmp_path / "raw", 1_700_000_000
    for label in ("drink", "wave"):
        (raw / label).mkdir(parents=True)
        for number in range(2):
            np.save(raw / label / f"{number}.npy", np.full((4, 25, 3), 1 + number + (label == "wave"), np.float32))
            os.utime(raw / label / f"{number}.npy", (when, when))
    first = run("folder", raw, tmp_path / "out").skeletons
    assert [float(first.joints[row][0, 0, 0]) for row in range(4)] == [1, 2, 2, 3]
    for source, target in (("drink", "aside"), ("wave", "drink"), ("aside", "wave")):
        (raw / source).rename(raw / target)
    found = run("folder", raw, tmp_path / "out")
    assert not found.again
    assert [float(found.skeletons.joints[row][0, 0, 0]) for row in range(4)] == [2, 3, 1, 2]


def test_a_zip_whose_members_changed_is_read_again(tmp_path):
    """Sizes and the zip's own time stay as they were."""
    for number in (1, 2):
        joints = np.full((4, 20, 3), number).tolist()
        text = json.dumps({"skeletons": joints, "label": 1})
        with ZipFile(tmp_path / "raw.zip", "w") as archive:
            archive.writestr("a01_s01_e00_v01.json", text)
        os.utime(tmp_path / "raw.zip", (1_700_000_000, 1_700_000_000))
        found = run("nw-ucla", tmp_path / "raw.zip", tmp_path / "out")
        assert not found.again and float(found.skeletons.joints[0][0, 0, 0]) == number


def test_a_file_that_changed_is_read_again(tmp_path):
    raw = many(tmp_path / "raw", 3)
    run("nw-ucla", raw, tmp_path / "out")
    joints = write_nw_ucla(raw, "a01_s00_e01_v02", 7, 2)
    found = run("nw-ucla", raw, tmp_path / "out")
    assert not found.again
    np.testing.assert_array_equal(found.skeletons.joints[1], joints.astype(np.float32))


def test_a_zip_gives_what_its_folder_gives(tmp_path):
    raw = many(tmp_path / "raw", 20)
    with ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in raw.iterdir():
            archive.write(path, f"all_sqe/{path.name}")
    run("nw-ucla", raw, tmp_path / "folder")
    run("nw-ucla", tmp_path / "raw.zip", tmp_path / "zip")
    assert same(tmp_path / "folder", tmp_path / "zip")


def test_of_two_files_of_one_name_the_first_is_kept(tmp_path):
    first = write_nw_ucla(tmp_path / "raw" / "a", "a01_s01_e00_v01", 5, 1)
    write_nw_ucla(tmp_path / "raw" / "b", "a01_s01_e00_v01", 6, 2)
    found = run("nw-ucla", tmp_path / "raw", tmp_path / "out")
    np.testing.assert_array_equal(found.skeletons.joints[0], first.astype(np.float32))
    assert len(found.skeletons.names) == 1
    assert [(f.file, f.found, f.done) for f in found.findings] == [
        ("a01_s01_e00_v01", "second clip of the name", "left out")
    ]


def test_what_was_prepared_stays_where_nothing_new_could_be_used(tmp_path):
    run("nw-ucla", many(tmp_path / "raw", 3), tmp_path / "out")
    before = (tmp_path / "out" / "skeletons.h5").read_bytes()
    write_nw_ucla(tmp_path / "bad", "a01_s01_e00_v01", 5, 99)
    with pytest.raises(ValueError, match="not one of 1 files could be used"):
        run("nw-ucla", tmp_path / "bad", tmp_path / "out")
    assert (tmp_path / "out" / "skeletons.h5").read_bytes() == before


def test_units_are_told_apart_where_their_files_are_not():
    """Clips that all lie in one file are other units all the same."""
    units = units_of([RawFile(Path("poses.pkl"), str(number % 2), 9, 1.0) for number in range(100)], "")
    assert len({unit.key for unit in units}) == len(units) == 7


def test_a_stop_keeps_the_units_that_are_done(tmp_path):
    raw, seen, stop = many(tmp_path / "raw", 100), [], Stop()
    opened = open_dataset("nw-ucla", raw)

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if done >= 32:
            stop.ask()

    with pytest.raises(Stopped, match="stopped; run the same command again, it goes on"):
        prepare("nw-ucla", opened, tmp_path / "out", progress, stop=stop)
    assert seen[-1] == 32 and not (tmp_path / "out" / "skeletons.h5").exists()
    seen.clear()
    prepare("nw-ucla", opened, tmp_path / "out", lambda done, total: seen.append(done))
    assert (seen[0], seen[-1]) == (32, 100)
    prepare("nw-ucla", opened, tmp_path / "unbroken", nothing)
    assert same(tmp_path / "out", tmp_path / "unbroken")


def test_a_killed_command_goes_on_and_leaves_no_process_behind(tmp_path):
    """kill -9 of the command while two processes read for it."""
    raw, out = many(tmp_path / "raw", 700), tmp_path / "out"
    words = [sys.executable, "-m", "mmcl.cli", "prepare", "nw-ucla", str(raw), "--out", str(out), "--jobs", "2"]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not (kept := list(out.glob("skeletons.parts/*.json"))):
        assert command.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    readers = children(command.pid)
    command.kill()
    command.wait()
    assert not (out / "skeletons.h5").exists()
    deadline = time.monotonic() + 20
    while any(is_alive(reader) for reader in readers):
        assert time.monotonic() < deadline, "a reading process outlives its command"
        time.sleep(0.05)
    seen = list[int]()
    opened = open_dataset("nw-ucla", raw)
    prepare("nw-ucla", opened, out, lambda done, total: seen.append(done))
    assert seen[0] >= SMALLEST * len(kept)
    prepare("nw-ucla", opened, tmp_path / "unbroken", nothing)
    assert same(out, tmp_path / "unbroken")


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def words_of(process: int) -> bytes:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def half_prepared(tmp_path: Path) -> tuple[RawDataset, Path]:
    """A data set that was stopped after two units of 16 files; its folder."""
    opened, stop = open_dataset("nw-ucla", many(tmp_path / "raw", 100)), Stop()
    with pytest.raises(Stopped):
        prepare("nw-ucla", opened, tmp_path / "out", lambda done, total: stop.ask() if done >= 32 else None, stop=stop)
    return opened, tmp_path / "out"


def zero(path: Path, column: str) -> None:
    """Spoil some of a column's values where they lie in the file."""
    with h5py.File(path) as file:
        at = file[column].id.get_offset()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(300))


def break_part(out: Path) -> None:
    zero(next(out.glob("skeletons.parts/*.h5")), "joints/values")


def lose_part(out: Path) -> None:
    next(out.glob("skeletons.parts/*.h5")).unlink()


def tear_part(out: Path) -> None:
    path = next(out.glob("skeletons.parts/*.h5"))
    path.write_bytes(path.read_bytes()[:500])


def empty_record(out: Path) -> None:
    next(out.glob("skeletons.parts/*.json")).write_bytes(b"")


def other_record(out: Path) -> None:
    next(out.glob("skeletons.parts/*.json")).write_text('{"clips": [], "findings": 3}')


@pytest.mark.parametrize("spoil", [break_part, lose_part, tear_part, empty_record, other_record])
def test_a_unit_that_a_crash_left_damaged_is_read_again(tmp_path, spoil):
    opened, out = half_prepared(tmp_path)
    spoil(out)
    prepare("nw-ucla", opened, out, nothing)
    prepare("nw-ucla", opened, tmp_path / "unbroken", nothing)
    assert same(out, tmp_path / "unbroken")


def lose_listing(out: Path) -> None:
    (out / "findings.csv").unlink()


def short_listing(out: Path) -> None:
    (out / "findings.csv").write_text("file,found,done\nonly one\n")


def break_table(out: Path) -> None:
    zero(out / "skeletons.h5", "joints/values")


def break_names(out: Path) -> None:
    zero(out / "skeletons.h5", "name")


def break_offsets(out: Path) -> None:
    zero(out / "skeletons.h5", "joints/offsets")


def other_listing(out: Path) -> None:
    (out / "findings.csv").write_text("file,found,done\na.json,an empty file,left out\n")


def endless_listing(out: Path) -> None:
    (out / "findings.csv").write_text(f"file,found,done\na.json,{'x' * 200_000},left out\n")


@pytest.mark.parametrize(
    "spoil",
    [break_table, break_names, break_offsets, lose_listing, short_listing, other_listing, endless_listing],
)
def test_what_is_damaged_is_prepared_again(tmp_path, spoil):
    raw, out = many(tmp_path / "raw", 20), tmp_path / "out"
    run("nw-ucla", raw, out)
    run("nw-ucla", raw, tmp_path / "whole")
    spoil(out)
    assert not run("nw-ucla", raw, out).again
    assert same(out, tmp_path / "whole") and not damaged_rows(out / "skeletons.h5")


def test_the_same_files_by_another_way_are_the_same(tmp_path, monkeypatch):
    run("nw-ucla", many(tmp_path / "raw", 3), tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    assert run("nw-ucla", Path("raw"), Path("out")).again
    (tmp_path / "raw").rename(tmp_path / "moved")
    assert run("nw-ucla", Path("moved"), Path("out")).again


def test_what_a_killed_command_wrote_of_the_table_goes(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "skeletons.h5.host.123.tmp").write_bytes(b"half")
    run("nw-ucla", many(tmp_path / "raw", 3), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["findings.csv", "skeletons.h5"]


def test_a_name_that_is_no_utf_8_is_a_finding(tmp_path):
    raw = many(tmp_path / "raw", 3)
    (raw / os.fsdecode(b"a01_s09_e00_v\xff1.json")).write_text("{}")
    found = run("nw-ucla", raw, tmp_path / "out")
    assert len(found.skeletons.names) == 3
    assert r"a01_s09_e00_v\udcff1.json" in (tmp_path / "out" / "findings.csv").read_text()


def test_ctrl_c_as_the_readers_start_is_a_clean_end(tmp_path):
    """The signal goes to the whole group, as a terminal sends it."""
    raw, out = many(tmp_path / "raw", 300), tmp_path / "out"
    words = [sys.executable, "-m", "mmcl.cli", "prepare", "nw-ucla", str(raw), "--out", str(out), "--jobs", "2"]
    command = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    while not any(b"spawn_main" in words_of(child) for child in children(command.pid)):
        assert command.poll() is None, "it ended before it could be stopped"
        time.sleep(0.001)
    os.killpg(command.pid, signal.SIGINT)
    said = command.communicate(timeout=60)[1].decode()
    assert command.returncode == 130 and "run the same command again, it goes on" in said
    assert "Traceback" not in said


def test_a_reading_process_that_is_killed_is_said(tmp_path):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 40))
    opened.reader = end_at_once
    with pytest.raises(RuntimeError, match="killed, for want of memory perhaps; run the same command again"):
        prepare("nw-ucla", opened, tmp_path / "out", nothing, jobs=2)
    assert len(run("nw-ucla", tmp_path / "raw", tmp_path / "out").skeletons.names) == 40


def end_at_once(file: RawFile) -> RawClip:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize("error", [ValueError, KeyError, MemoryError, ZeroDivisionError, AssertionError, OSError])
def test_whatever_a_file_does_to_its_reader_it_is_a_finding(tmp_path, error):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 3))
    whole = opened.reader

    def reader(file: RawFile) -> RawClip:
        if "e01" in file.name:
            raise error("what happened")
        return whole(file)

    opened.reader = reader
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert [finding.file for finding in found.findings] == ["a01_s00_e01_v02.json"]
    assert len(found.skeletons.names) == 2


def test_findings_of_a_kind_are_one_line():
    findings = [Finding(f"f{number}", f"line {number} is torn: x{number}", "left out") for number in range(3)]
    assert finding_lines([*findings, Finding("g", "1 frame", "kept"), Finding("h", "1 frame", "left out")]) == [
        "f0: line 0 is torn: x0; left out; and 2 like it",
        "g: 1 frame; kept",
        "h: 1 frame; left out",
    ]
    many_kinds = [Finding("f", f"fault {chr(97 + kind // 26)}{chr(97 + kind % 26)}", "kept") for kind in range(50)]
    assert finding_lines(many_kinds)[-1] == "and 10 kinds of findings more" and len(finding_lines(many_kinds)) == 41


def test_what_the_readers_counted_is_summed_zeros_too(tmp_path):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 40))
    whole = opened.reader
    opened.reader = lambda file: replace(whole(file), counts={"bodies": 2, "dropped": 0})
    assert prepare("nw-ucla", opened, tmp_path / "out", nothing).counts == {"bodies": 80, "dropped": 0}
    assert prepare("nw-ucla", opened, tmp_path / "out", nothing).counts == {"bodies": 80, "dropped": 0}


def test_what_the_disk_did_not_give_is_looked_at_again(tmp_path):
    """A disk that goes away for a moment costs no clip for good."""
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 3))
    whole = opened.reader

    def away(file: RawFile) -> RawClip:
        if "e01" in file.name:
            raise OSError(errno.EIO, "Input/output error", str(file.path))
        return whole(file)

    opened.reader = away
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert found.unread == 1 and len(found.skeletons.names) == 2
    assert [(f.found, f.done) for f in found.findings] == [("Input/output error", "could not be read")]
    opened.reader = whole
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert not found.again and not found.unread and len(found.skeletons.names) == 3


def test_a_unit_that_the_disk_did_not_give_is_read_again_after_a_stop(tmp_path):
    opened, stop = open_dataset("nw-ucla", many(tmp_path / "raw", 100)), Stop()
    whole = opened.reader

    def away(file: RawFile) -> RawClip:
        raise OSError(errno.EIO, "Input/output error", str(file.path))

    opened.reader = away
    with pytest.raises(Stopped):
        prepare("nw-ucla", opened, tmp_path / "out", lambda done, total: stop.ask() if done else None, stop=stop)
    opened.reader = whole
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert len(found.skeletons.names) == 100 and not found.findings


def test_what_is_called_as_a_file_but_is_none_is_a_finding(tmp_path):
    raw = many(tmp_path / "raw", 2)
    (raw / "a01_s08_e00_v01.json").symlink_to(tmp_path / "not-mounted")
    (raw / "a01_s08_e01_v01.json").mkdir()
    (raw / "a01_s08_e02_v01.json").symlink_to("/dev/zero")
    os.mkfifo(raw / "a01_s08_e03_v01.json")
    found = run("nw-ucla", raw, tmp_path / "out")
    assert len(found.skeletons.names) == 2
    assert [finding.found for finding in found.findings] == [
        "a link that leads nowhere",
        "a folder, wanted a file",
        "a device or a pipe, wanted a file",
        "a device or a pipe, wanted a file",
    ]


@pytest.mark.parametrize("name", ["", " ", "..", "a/../b", "/etc/x", "a//b", "tab\tin it", "x" * 201, "\udcff"])
def test_what_no_file_could_be_called_is_no_name_for_a_clip(tmp_path, name):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 2))
    whole = opened.reader
    opened.reader = lambda file: replace(whole(file), name=name) if "e01" in file.name else whole(file)
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert len(found.skeletons.names) == 1 and "is no name for a clip" in found.findings[0].found


def test_a_file_is_no_place_for_a_data_set(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ValueError, match="out: a file; give --out a folder"):
        run("nw-ucla", many(tmp_path / "raw", 2), tmp_path / "out")


def test_a_number_beyond_64_bits_is_a_finding(tmp_path):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 2))
    whole = opened.reader
    opened.reader = lambda file: replace(whole(file), columns={"room": 2**70} if "e01" in file.name else {})
    found = prepare("nw-ucla", opened, tmp_path / "out", nothing)
    assert [finding.found for finding in found.findings] == [f"room: {2**70}, a number of more than 64 bits"]


def test_strangers_words_reach_the_terminal_as_they_are(tmp_path):
    found = run("nw-ucla", many(tmp_path / "raw", 2), tmp_path / "out").skeletons
    nobody = np.full(2, -1)
    layout = replace(found.layout, name="[/x]\x1b]0;evil\x07")
    odd = replace(found, columns={"[red]cam\x1b": nobody}, layout=layout)
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    console.print(data_table(odd))
    said = console.file.getvalue()
    assert "[red]cam" in said and "[/x]" in said and "\x1b" not in said


def test_two_commands_at_once_are_refused(tmp_path):
    raw = many(tmp_path / "raw", 3)
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / "prepare.lock", wait=False), pytest.raises(BlockingIOError, match="is at work here"):
        run("nw-ucla", raw, tmp_path / "out")


def test_what_is_wrong_with_a_file_is_told_in_bounds(tmp_path):
    opened = open_dataset("nw-ucla", many(tmp_path / "raw", 2))
    whole = opened.reader

    def reader(file: RawFile) -> RawClip:
        if "e01" in file.name:
            raise ValueError("x" * 200_000)
        return whole(file)

    opened.reader = reader
    assert len(prepare("nw-ucla", opened, tmp_path / "out", nothing).findings[0].found) == 1000
    assert prepare("nw-ucla", opened, tmp_path / "out", nothing).again


def test_options_of_a_folder_are_no_other_data_sets(tmp_path):
    with pytest.raises(ValueError, match=r"--split-by: for a folder of one's own; nw-ucla has its own layout"):
        open_dataset("nw-ucla", tmp_path, split_by="view", layout=None)


def test_ones_own_data_is_called_as_its_folder(tmp_path):
    assert place_of("folder", Path("clips/mine.zip"), None) == ("mine", Path("data/mine"))
    assert place_of("pyskl", Path("a.pkl"), Path("data/poses")) == ("poses", Path("data/poses"))
    assert place_of("ntu60", Path("raw"), None) == ("ntu60", Path("data/ntu60"))
    with pytest.raises(ValueError, match="nw-ucla is a published data set; give your own another --out"):
        place_of("folder", Path("raw"), Path("data/nw-ucla"))


def test_unknown_data_set_offers_the_nearest():
    with pytest.raises(ValueError, match="no data set 'nw_ucla': did you mean nw-ucla"):
        open_dataset("nw_ucla", Path())
