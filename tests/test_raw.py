"""Raw files where they lie: in folders, in zips, under a size limit."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from mmcl.pipeline.preparation.raw import RawFile, find_raw


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def found(raw: Path) -> dict[str, bytes]:
    return {file.name: file.read() for file in find_raw(raw, "*.txt", "texts")}


def test_a_zip_is_read_as_it_is(tmp_path: Path):
    raw = zipped(tmp_path / "raw.zip", {"deep/in/b.txt": b"2", "a.txt": b"1", "other.csv": b"3"})
    assert found(raw) == {"a.txt": b"1", "b.txt": b"2"}
    assert [file.place for file in find_raw(raw, "*.txt", "texts")] == [f"{raw}:a.txt", f"{raw}:deep/in/b.txt"]


def test_a_folder_gives_its_files_and_those_of_its_zips_by_stem(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.txt").write_bytes(b"3")
    (tmp_path / "a.TXT").write_bytes(b"1")
    zipped(tmp_path / "deep" / "half.zip", {"b.txt": b"2"})
    assert list(found(tmp_path).items()) == [("a.TXT", b"1"), ("b.txt", b"2"), ("c.txt", b"3")]


def test_other_programs_notes_are_not_read(tmp_path: Path):
    zipped(tmp_path / "raw.zip", {"__MACOSX/._a.txt": b"x", ".hidden/a.txt": b"x", "a.txt": b"1"})
    (tmp_path / "._a.txt").write_bytes(b"x")
    (tmp_path / "._raw.zip").write_bytes(b"x")
    assert found(tmp_path) == {"a.txt": b"1"}


def test_what_is_there_instead_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="absent: no such folder; give the folder or zip that holds texts"):
        find_raw(tmp_path / "absent", "*.txt", "texts")
    with pytest.raises(ValueError, match="holds no texts; it is empty"):
        find_raw(tmp_path, "*.txt", "texts")
    (tmp_path / "a.csv").touch()
    zipped(tmp_path / "raw.zip", {"b.csv": b"", "c": b""})
    with pytest.raises(ValueError, match=r"holds no texts; found 2 \.csv, 1 no suffix"):
        find_raw(tmp_path, "*.txt", "texts")
    with pytest.raises(ValueError, match=r"a\.csv: a file; give the folder or zip"):
        find_raw(tmp_path / "a.csv", "*.txt", "texts")


def test_a_torn_zip_is_named(tmp_path: Path):
    whole = zipped(tmp_path / "raw.zip", {"a.txt": b"1" * 1000}).read_bytes()
    (tmp_path / "raw.zip").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"raw\.zip: not a readable zip .*; get it anew, or move it away"):
        find_raw(tmp_path, "*.txt", "texts")


def test_a_zip_with_a_password_is_named(tmp_path: Path):
    content = bytearray(zipped(tmp_path / "raw.zip", {"a.txt": b"1"}).read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 8] |= 1
    (tmp_path / "raw.zip").write_bytes(content)
    with pytest.raises(ValueError, match="needs a password; unpack it, and give the folder"):
        find_raw(tmp_path, "*.txt", "texts")


def test_a_damaged_member_is_a_value_error_and_the_others_are_read(tmp_path: Path):
    raw = zipped(tmp_path / "raw.zip", {"a.txt": bytes(range(256)) * 8, "b.txt": b"2"})
    content = bytearray(raw.read_bytes())
    content[60:70] = bytes(10)
    raw.write_bytes(content)
    torn, whole = find_raw(raw, "*.txt", "texts")
    with pytest.raises(ValueError, match="damaged in its zip"):
        torn.read()
    assert whole.read() == b"2"


def test_no_more_is_read_than_the_limit_whatever_a_zip_says(tmp_path: Path):
    """A megabyte of zeros is a kilobyte in the zip, and its header may lie about it."""
    raw = zipped(tmp_path / "raw.zip", {"a.txt": bytes(1 << 20)})
    content = bytearray(raw.read_bytes())
    entry = content.index(b"PK\1\2")
    struct.pack_into("<I", content, entry + 24, 10)
    raw.write_bytes(content)
    [file] = find_raw(raw, "*.txt", "texts")
    with pytest.raises(ValueError, match=r"damaged in its zip|more than 100 bytes"):
        file.read(100)
    (tmp_path / "b.txt").write_bytes(bytes(101))
    with pytest.raises(ValueError, match="more than 100 bytes; no skeleton file is that large"):
        RawFile(tmp_path / "b.txt").read(100)
    assert len(RawFile(tmp_path / "b.txt").read(101)) == 101


def test_a_member_is_read_in_another_process(tmp_path: Path):
    [file] = find_raw(zipped(tmp_path / "raw.zip", {"a.txt": b"1"}), "*.txt", "texts")
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).read())"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(file), capture_output=True, check=True)
    assert done.stdout == b"1"


def test_links_to_folders_are_followed_once(tmp_path: Path):
    """A link that leads back to where one came from is no endless way."""
    (tmp_path / "raw" / "in").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_bytes(b"1")
    (tmp_path / "raw" / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "raw" / "in")
    assert found(tmp_path / "raw") == {"a.txt": b"1"}


def test_a_folder_that_cannot_be_looked_into_is_no_silent_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").write_bytes(b"1")
    scan = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PermissionError, match="closed"):
        found(tmp_path)


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    for person in ("ann", "bob"):
        (tmp_path / person).mkdir()
        (tmp_path / person / "same.txt").touch()
    zipped(tmp_path / "more.zip", {"cid/same.txt": b"", "other.txt": b""})
    called = [file.called for file in find_raw(tmp_path, "*.txt", "texts")]
    assert sorted(called) == ["ann/same.txt", "bob/same.txt", "more.zip:cid/same.txt", "other.txt"]


def test_a_zip_that_was_replaced_is_opened_anew(tmp_path: Path):
    raw = zipped(tmp_path / "raw.zip", {"a.txt": b"old"})
    assert found(raw) == {"a.txt": b"old"}
    zipped(tmp_path / "other.zip", {"a.txt": b"new", "b.txt": b"2"})
    shutil.move(tmp_path / "other.zip", raw)
    assert found(raw) == {"a.txt": b"new", "b.txt": b"2"}
