"""One's own data: what a table or folders of classes tell, how clips are split, and what is refused."""

from __future__ import annotations

import csv
import os
import pickle
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from mmcl.cache.mapped import map_table
from mmcl.cache.skeletons import OUT, TEST, TRAIN, Skeletons, read_skeletons
from mmcl.pipeline.datasets import open_dataset
from mmcl.pipeline.preparation.prepare import Prepared, prepare


def run(raw: Path, out: Path, **options: object) -> Prepared:
    return prepare("own", open_dataset("folder", raw, **options), out, lambda done, total: None)


def write_folder(folder: Path, header: str, *lines: str) -> Path:
    """A table, and the skeletons one.npy, two.npy and three.npy of 20 joints."""
    folder.mkdir(parents=True)
    (folder / "samples.csv").write_text("\n".join([header, *lines, ""]))
    for name in ("one", "two", "three"):
        np.save(folder / f"{name}.npy", np.full((4, 20, 3), 1 + len(name) / 8))
    return folder


def write_classes(folder: Path, *clips: str) -> Path:
    for clip in clips:
        (folder / clip).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{clip}.npy", np.ones((4, 20, 3)))
    return folder


def sides(skeletons: Skeletons, split: str) -> dict[str, int]:
    return dict(zip(skeletons.names, skeletons.splits[split].sides.tolist(), strict=True))


def test_ones_own_folder_gives_its_classes_and_both_splits(prepared, raw):
    found = read_skeletons(prepared / "skeletons.h5")
    assert found.classes == ("drink", "kick", "pick up", "sit down", "stand up", "wave")
    assert list(found.splits) == ["given", "xsub"]
    assert (found.dataset, found.coordinates, len(found.names)) == ("acted", "metres", 24)
    assert set(found.columns["subject"][found.rows("xsub", TEST)]) == {2, 4}
    with (raw / "samples.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    joints = found.joints[found.names.index(first["name"])]
    np.testing.assert_array_equal(joints, np.load(raw / first["skeleton"]))


@pytest.mark.parametrize(
    ("header", "line", "said"),
    [
        ("name,label", "one,wave", r"samples\.csv: column skeleton missing; found name, label"),
        ("name,class,skeletons", "one,wave,one.npy", r"column label missing; found name, class, skeletons"),
        ("label,skeletons", "wave,one.npy", r"column skeleton missing \(rename skeletons\?\)"),
        ("label,skeleton,Label", "wave,one.npy,sit", r"column label twice"),
        ("name,label,skeleton", "", r"a heading and no line"),
        ("", "", r"an empty file"),
        ("label,skeleton", "wave,gone.npy", r"none of the 1 skeleton files can be read; .*line 2: no such file, gone"),
        ("name,label,skeleton", "one,wave", r"not one of 1 clips can be used; line 2: no skeleton"),
    ],
)
def test_a_table_that_does_not_do_says_what_it_lacks(tmp_path, header, line, said):
    raw = write_folder(tmp_path / "raw", header, line)
    with pytest.raises(ValueError, match=said):
        run(raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("two,,two.npy,test", "no label"),
        ("two,sit,,test", "no skeleton"),
        ("two,sit,two.npy,val", "split val; allowed are train, test or nothing"),
        ("two,sit,../two.npy,test", r"skeleton ../two.npy lies outside the folder"),
        ("two,sit,/etc/two.npy,test", r"skeleton /etc/two.npy lies outside the folder"),
        (r"two,sit,C:\two.npy,test", r"skeleton C:/two.npy lies outside the folder"),
        ("one,sit,two.npy,test", "the same name one as line 2"),
        ("two,sit,./one.npy,test", "the same skeleton one.npy as line 2"),
        ("two,sit, slowly,two.npy,test", "5 cells, 4 columns; a cell that holds the mark between cells needs quotes"),
        ("two", "no label, skeleton: 1 cell, 4 columns"),
        ("two,sit,three.npy/two.npy,test", "no such file, three.npy/two.npy"),
        ("two,sit,gone.npy,test", "no such file, gone.npy"),
        ("two,sit,poses,test", "poses is a folder"),
        ("two,sit,lost.npy,test", "lost.npy is a link that leads nowhere"),
        ("two,sit,pipe.npy,test", "pipe.npy is a device or a pipe"),
        (f"two,sit,{'x' * 300}.npy,test", "File name too long"),
        ('two,"sit,two.npy,test\nthree,sit,three.npy,test', "a quotation mark is not closed"),
    ],
)
def test_a_line_that_cannot_be_meant_is_left_out_and_the_rest_goes_on(tmp_path, line, found):
    raw = write_folder(tmp_path / "raw", "name,label,skeleton,split", "one,wave,one.npy,train", line)
    (raw / "poses").mkdir()
    (raw / "lost.npy").symlink_to("nowhere.npy")
    os.mkfifo(raw / "pipe.npy")
    prepared = run(raw, tmp_path / "out")
    assert prepared.skeletons.names == ("one",)
    (finding,) = prepared.findings
    assert finding.file.startswith("samples.csv, line ") and finding.file != "samples.csv, line 2"
    assert found in finding.found and finding.done == "left out"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffname,label,skeleton,split\nen,wave,one.npy,train\n",
        "Name;Label;Skeleton;Split\r\nen;wave;one.npy;TRAIN\r\n",
        "name\tlabel\tskeleton\tsplit\nen\twave\tone.npy\ttraining\n",
        'name , label, "skeleton" ,split\n\n en , "wave" , one.npy, train \n,,,\n',
        ",name,label,skeleton,split\n0,en,wave,.\\one.npy,train\n",
        "skeleton,name,label,split\none.npy,en,wave,train",
        "sep=;\r\nName;Label;Skeleton;Split\r\nen;wave;one.npy;train\r\n",
        '\ufeff"sep=,",,\nname,label,skeleton,split\nen,wave,one.npy,train\n',
        "SEP=|\nname|label|skeleton|split\nen|wave|one.npy|train\n",
    ],
    ids=[
        "byte-order mark",
        "semicolons",
        "tabs",
        "spaces, quotes, blank lines",
        "pandas, Windows",
        "another order",
        "Excel's delimiter",
        "Excel's, saved again",
        "a delimiter of one's own",
    ],
)
def test_a_table_is_read_as_people_save_it(tmp_path, text):
    raw = write_folder(tmp_path / "raw", "")
    (raw / "samples.csv").write_bytes(text.encode())
    found = run(raw, tmp_path / "out")
    assert (found.skeletons.names, found.skeletons.classes, found.findings) == (("en",), ("wave",), [])
    assert sides(found.skeletons, "given") == {"en": TRAIN}


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04\xff\xfe\x00", "name,label\xe9".encode("latin-1"), b'"' + b"a" * 200_000]
)
def test_what_is_no_csv_file_is_refused(tmp_path, content):
    raw = write_folder(tmp_path / "raw", "")
    (raw / "samples.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r'not a CSV file in UTF-8 .*; save it as one, in Excel as "CSV UTF-8"'):
        run(raw, tmp_path / "out")


def test_a_clip_without_a_name_is_called_as_its_file(tmp_path):
    raw = write_folder(tmp_path / "raw", "label,skeleton,name", "wave,one.npy,", "sit,two.npy,zwei")
    assert run(raw, tmp_path / "out").skeletons.names == ("one", "zwei")


def test_files_that_are_no_skeletons_are_named_and_the_rest_is_kept(tmp_path):
    lines = [f"{name},wave,{name}.npy,test" for name in ("empty", "zip", "gone")]
    raw = write_folder(tmp_path / "raw", "name,label,skeleton,split", "one,wave,one.npy,train", *lines)
    (raw / "empty.npy").touch()
    with (raw / "zip.npy").open("wb") as file:
        np.savez(file, joints=np.ones((4, 20, 3)))
    found = run(raw, tmp_path / "out")
    assert found.skeletons.names == ("one",)
    assert {finding.file for finding in found.findings} == {"empty.npy", "zip.npy", "samples.csv, line 5"}


def test_a_finding_names_a_file_with_its_folder(tmp_path):
    raw = write_classes(tmp_path / "raw", "wave/01", "wave/02", "sit/01")
    (raw / "sit" / "01.npy").write_bytes(b"")
    assert [finding.file for finding in run(raw, tmp_path / "out").findings] == ["sit/01.npy"]


def test_what_lies_among_skeletons_and_is_no_file_is_named(tmp_path):
    raw = write_classes(tmp_path / "raw", "wave/a", "wave/b", "sit/c", "sit/d")
    (raw / "sit" / "folder.npy").mkdir()
    (raw / "sit" / "lost.npy").symlink_to("nowhere.npy")
    (raw / "sit" / "zero.npy").symlink_to("/dev/zero")
    os.mkfifo(raw / "sit" / "pipe.npy")
    found = run(raw, tmp_path / "out")
    assert len(found.skeletons.names) == 4
    assert {finding.file: finding.found for finding in found.findings} == {
        "sit/folder.npy": "a folder, wanted a file",
        "sit/lost.npy": "a link that leads nowhere",
        "sit/pipe.npy": "a device or a pipe, wanted a file",
        "sit/zero.npy": "a device or a pipe, wanted a file",
    }


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../b", ".", "a\tb", "\x1b[31mred", "ü" * 101])
def test_a_name_that_no_file_may_have_is_a_finding(tmp_path, name):
    raw = write_folder(tmp_path / "raw", "name,label,skeleton", "one,wave,one.npy", f"{name},sit,two.npy")
    found = run(raw, tmp_path / "out")
    assert found.skeletons.names == ("one",)
    assert [finding.file for finding in found.findings] == ["two.npy"]
    assert "is no name for a clip" in found.findings[0].found


def test_a_file_whose_name_no_clip_may_have_is_a_finding(tmp_path):
    raw = write_classes(tmp_path / "raw", "wave/a", "sit/b", "sit/c\nd", "sit/\x1b[31mred")
    found = run(raw, tmp_path / "out")
    assert found.skeletons.names == ("a", "b")
    assert ["is no name for a clip" in finding.found for finding in found.findings] == [True, True]


@pytest.mark.parametrize("name", ["w\udcff", "w\x1b[31m", "w\n"], ids=["not UTF-8", "a colour", "a line's end"])
def test_a_folder_whose_name_is_no_text_is_no_class(tmp_path, name):
    found = run(write_classes(tmp_path / "raw", f"{name}/a", "sit/b", "wave/c"), tmp_path / "out")
    assert found.skeletons.classes == ("sit", "wave")
    assert ["no name for a class" in finding.found for finding in found.findings] == [True]


def test_a_table_that_is_no_file_is_refused_by_its_place(tmp_path):
    (tmp_path / "raw" / "samples.csv").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"raw/samples\.csv: a folder, wanted a file"):
        run(tmp_path / "raw", tmp_path / "out")


def test_columns_are_kept_as_numbers_and_texts_by_their_sorted_value(tmp_path):
    lines = "wave,one.npy,P02,7.0,lab,a", "sit,two.npy,P01,9.0,home,b", "sit,three.npy,P02,,lab,c"
    raw = write_folder(tmp_path / "raw", "label,skeleton,subject,camera,site,a/b", *lines)
    found = run(raw, tmp_path / "out")
    columns = {name: values.tolist() for name, values in found.skeletons.columns.items()}
    assert found.skeletons.names == ("one", "three", "two")
    assert columns == {"subject": [2, 2, 1], "camera": [7, -1, 9], "site": [2, 2, 1]}
    assert "column site is text, kept as numbers: 1 home, 2 lab" in found.warnings
    assert "column a/b: not kept, for the / in its name" in found.warnings
    assert sides(found.skeletons, "xsub") == {"one": TEST, "three": TEST, "two": TRAIN}


@pytest.mark.parametrize(
    ("values", "numbers", "said"),
    [
        ((-2, 0, -10), [2, 3, 1], "1 -10, 2 -2, 3 0"),
        (("1.5", "0.25", "10"), [2, 1, 3], "1 0.25, 2 1.5, 3 10"),
        (("1", "1.0", "-1"), [2, 2, 1], "1 -1, 2 1, 2 1.0"),
        (("1,5", "0,25", "1e1"), [2, 1, 3], "1 0,25, 2 1,5, 3 1e1"),
        (range(-6, 1), [1, 2, 3, 4, 5, 6, 7], "1 -6, 2 -5, 3 -4, 4 -3, ..., 7 0"),
    ],
)
def test_numbers_that_the_cache_cannot_hold_are_numbered_in_their_order(tmp_path, values, numbers, said):
    """-1 stands for unknown there."""
    names = [f"clip{number}" for number in range(len(values))]
    lines = [f"wave;{name}.npy;{value}" for name, value in zip(names, values, strict=True)]
    raw = write_classes(write_folder(tmp_path / "raw", "label;skeleton;angle", *lines), *names)
    found = run(raw, tmp_path / "out")
    assert found.skeletons.columns["angle"].tolist() == numbers
    assert f"column angle is not of whole numbers from 0 on, numbered by sorted value: {said}" in found.warnings


def test_a_clip_of_an_unknown_subject_is_on_neither_side(tmp_path):
    lines = "wave,one.npy,1", "wave,two.npy,2", "wave,three.npy,"
    raw = write_folder(tmp_path / "raw", "label,skeleton,subject", *lines)
    assert sides(run(raw, tmp_path / "out").skeletons, "xsub") == {"one": TRAIN, "two": TEST, "three": OUT}


def test_a_split_by_a_column_comes_first(tmp_path):
    lines = "wave,one.npy,3,1", "wave,two.npy,10,1", "wave,three.npy,20,2"
    raw = write_folder(tmp_path / "raw", "label,skeleton,Room,subject", *lines)
    found = run(raw, tmp_path / "out", split_by="room").skeletons
    assert list(found.splits) == ["by-room", "xsub"]
    assert sides(found, "by-room") == {"one": TRAIN, "two": TEST, "three": TRAIN}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"split_by": "rom"}, r"--split-by rom: no such column; did you mean room\? found room, site"),
        (
            {"split_by": "video"},
            r"--split-by video: the column is not kept, it has a meaning of its own; found room, site",
        ),
        ({"split_by": "Site Ünd/Ort"}, r"the column is not kept, for the / in its name; found room"),
        ({"split_by": "empty"}, r"--split-by empty: the column is not kept, it is empty; found room, site"),
        ({"split_by": "site"}, r"--split-by site: only one value, lab"),
        ({"test": 1.0}, r"--test 1\.0: wanted a share of the clips between 0 and 1"),
        ({"test": 0.0}, r"--test 0\.0"),
        ({"layout": "kinect"}, r"no layout 'kinect': did you mean kinect-v[12]\? known are kinect-v1, "),
        ({"layout": "kinect-v2"}, r"clips of 20 joints, layout kinect-v2 has 25"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_with_what_there_is(tmp_path, options, said):
    lines = [f"wave,{name}.npy,{room},lab,{name}.mp4,here" for room, name in enumerate(("one", "two"))]
    raw = write_folder(tmp_path / "raw", "label,skeleton,room,site,video,site ünd/ort,empty", *lines)
    with pytest.raises(ValueError, match=said):
        run(raw, tmp_path / "out", **options)


def test_a_random_split_has_every_class_on_both_sides_whatever_the_order(tmp_path):
    names = [f"{label}{number:02}" for label, count in (("a", 10), ("b", 2), ("c", 1)) for number in range(count)]
    lines = [f"{name},{name[0]},{name}.npy" for name in names]
    found = []
    for order, listed in enumerate((lines, lines[-2::-1])):
        raw = write_folder(tmp_path / f"raw{order}", "name,label,skeleton", *listed)
        write_classes(raw, *names)
        found.append(run(raw, tmp_path / f"out{order}", test=0.2, seed=7))
    split = sides(found[0].skeletons, "random")
    assert split == sides(found[1].skeletons, "random") | {"c00": TRAIN}
    tested = {label: [split[name] for name in names if name[0] == label].count(TEST) for label in "abc"}
    assert tested == {"a": 2, "b": 1, "c": 0}
    assert not any("optimistic" in warning for warning in found[0].warnings)
    other = run(tmp_path / "raw0", tmp_path / "out0", test=0.2, seed=9)
    assert not other.again and sides(other.skeletons, "random") != split


@pytest.mark.parametrize("seed", range(6))
def test_a_random_split_is_drawn_from_the_clips_that_could_be_used(tmp_path, seed):
    """What is left of a class has both sides, as though the rest had never been there."""
    names = [f"{label}{number}" for label in "ab" for number in range(6)]
    raw = write_classes(
        write_folder(tmp_path / "raw", "name,label,skeleton", *(f"{n},{n[0]},{n}.npy" for n in names)), *names
    )
    for name in ("a0", "a2", "a3", "a4"):
        (raw / f"{name}.npy").write_bytes(b"")
    found = sides(run(raw, tmp_path / "out", test=0.3, seed=seed).skeletons, "random")
    assert {found["a1"], found["a5"]} == {TRAIN, TEST}
    assert [found[name] for name in names if name[0] == "b"].count(TEST) == 2
    (raw / "samples.csv").write_text("\n".join(["name,label,skeleton", "a5,a,a5.npy", "a1,a,a1.npy"]))
    alone = sides(run(raw, tmp_path / "alone", test=0.3, seed=seed).skeletons, "random")
    assert alone == {name: side for name, side in found.items() if name[0] == "a"}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("Wave", "wave", "classes 'Wave' and 'wave' differ in case"),
        ("kick", "kick ", "classes 'kick' and 'kick ' differ in case, spaces"),
        ("gru\u0308n", "gr\xfcn", r"classes 'gru\u0308n' and 'gr\xfcn' differ in case, spaces or the letters' codes"),
    ],
)
def test_classes_that_look_alike_stay_two_and_are_remarked_on(tmp_path, one, other, said):
    found = run(write_classes(tmp_path / "raw", f"{one}/a", f"{other}/b", "sit/c"), tmp_path / "out")
    assert set(found.skeletons.classes) == {one, other, "sit"}
    assert [warning for warning in found.warnings if "classes" in warning and said in warning]
    assert sum("differ in" in warning for warning in found.warnings) == 1


def test_a_folder_a_class_is_enough(tmp_path):
    """No subjects are known, so the split is a random one, and that is said."""
    raw = write_classes(tmp_path / "raw", "wave/a", "wave/b", "sit/c", "sit/d")
    (raw / "README.txt").write_text("what this is")
    found = run(raw, tmp_path / "out")
    assert found.skeletons.names == ("a", "b", "c", "d")
    assert [found.skeletons.classes[label] for label in found.skeletons.labels] == ["wave", "wave", "sit", "sit"]
    assert sorted(sides(found.skeletons, "random").values()) == [TRAIN, TRAIN, TEST, TEST]
    assert any("no subjects known; the same person may be in train and test" in said for said in found.warnings)
    assert [(finding.file, finding.found) for finding in found.findings] == [
        ("README.txt", "lies in no class's folder")
    ]


def test_file_names_that_classes_share_get_their_class_in_front(tmp_path):
    raw = write_classes(tmp_path / "raw", "wave/01", "wave/02", "sit/01")
    np.savez(raw / "wave" / "02.npz", np.ones((4, 20, 3)))
    found = run(raw, tmp_path / "out")
    assert found.skeletons.names == ("sit_01", "wave_01", "wave_02")
    assert any("clips are named CLASS_FILE" in said for said in found.warnings)
    (odd,) = found.findings
    assert (odd.file, odd.found) == ("wave/02.npz", "the same name wave_02 as wave/02.npy")


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        (("wave/a", "wave/b"), "skeletons in one folder only, wave; wanted samples.csv, or one folder a class"),
        (("train/wave/a", "test/wave/b"), "test/wave and train/wave are not side by side"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path, clips, said):
    with pytest.raises(ValueError, match=said):
        run(write_classes(tmp_path / "raw", *clips), tmp_path / "out")


def zipped(folder: Path, inside: str) -> Path:
    with ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, f"{inside}{path.relative_to(folder)}")
    return folder.with_suffix(".zip")


@pytest.mark.parametrize("inside", ["", "mine/data/"])
def test_a_zip_gives_what_its_folder_gives(tmp_path, inside):
    header, lines = (
        "name,label,skeleton,split",
        ("en,wave,one.npy,train", "zwei,sit,./two.npy,test", "drei,sit,gone.npy,", "vier,sit,poses,"),
    )
    table = write_folder(tmp_path / "table", header, *lines)
    (table / "poses").mkdir()
    (table / "poses" / "more.npy").touch()
    classes = write_classes(tmp_path / "classes", "wave/a", "wave/b", "sit/c")
    for raw in (table, classes):
        folder, archive = (
            run(raw, tmp_path / "folder" / raw.name),
            run(zipped(raw, inside), tmp_path / "zip" / raw.name),
        )
        assert archive.skeletons.digest == folder.skeletons.digest
        assert [(f.file, f.found) for f in archive.findings] == [(f.file, f.found) for f in folder.findings]


def test_the_table_may_be_given_itself_and_lie_in_a_folder(tmp_path):
    raw = write_folder(tmp_path / "raw" / "deep", "label,skeleton", "wave,one.npy", "sit,two.npy")
    assert run(tmp_path / "raw", tmp_path / "out").skeletons.names == ("one", "two")
    (raw / "samples.csv").rename(raw / "labels.csv")
    assert run(raw / "labels.csv", tmp_path / "own").skeletons.names == ("one", "two")


def test_two_tables_are_not_chosen_from(tmp_path):
    for name in ("a", "b"):
        write_folder(tmp_path / "raw" / name, "label,skeleton", "wave,one.npy")
    with pytest.raises(ValueError, match=r"several tables, a/samples\.csv and b/samples\.csv; give the folder of one"):
        run(tmp_path / "raw", tmp_path / "out")


def test_a_folder_without_skeletons_says_what_is_there(tmp_path):
    (tmp_path / "video.mp4").touch()
    with pytest.raises(ValueError, match=r"holds no samples\.csv .*; found \.mp4"):
        run(tmp_path, tmp_path / "out")


def test_its_files_are_read_by_other_processes_too(tmp_path, raw):
    opened = open_dataset("folder", raw)
    assert pickle.loads(pickle.dumps(opened.reader))(opened.files()[0]).name == opened.files()[0].stem  # noqa: S301
    prepare("own", opened, tmp_path / "one", lambda done, total: None, jobs=1)
    prepare("own", opened, tmp_path / "two", lambda done, total: None, jobs=2)
    one, two = (map_table(tmp_path / out / "skeletons.h5")[0]["joints"] for out in ("one", "two"))
    np.testing.assert_array_equal(one.values, two.values)


def test_a_table_that_changed_is_read_again(tmp_path):
    raw = write_folder(tmp_path / "raw", "label,skeleton", "wave,one.npy", "sit,two.npy")
    run(raw, tmp_path / "out")
    assert run(raw, tmp_path / "out").again
    (raw / "samples.csv").write_text("label,skeleton\nwave,one.npy\nwave,two.npy\n")
    assert run(raw, tmp_path / "out").skeletons.classes == ("wave",)
