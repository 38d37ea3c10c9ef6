"""Score files, ours and those of others: read as data, matched by name, refused with some of the names."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from mmcl.tests.scored import CLASSES, scores_of, write_npz, write_pickle
from mmcl.trainer.testing.others import read_score_file, scores_like
from mmcl.trainer.testing.scores import About, ScoreFile, Scores, aligned, read_npz, read_scores, write_scores

NTU = tuple(
    f"S{setup:03}C{camera:03}P{subject:03}R001A{action:03}"
    for setup in (1, 2, 3)
    for camera in (1, 2)
    for subject in (3, 6)
    for action in (1, 2)
)


def by_name(scores: Scores) -> dict[str, np.ndarray]:
    return dict(zip(scores.names, scores.values, strict=True))


def given(scores: Scores, **changed: Any) -> dict[str, Any]:
    return {"names": scores.names, "scores": scores.values, "labels": scores.labels} | changed


class Bomb:
    """What a pickle runs that is opened as Python opens it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def test_what_is_written_is_read_again_and_needs_no_pickle(tmp_path: Path):
    scores, about = scores_of(), About("last epoch", "ntu60", "xsub", "hdgcn", "bone", 3)
    write_scores(tmp_path, scores, about)
    found = read_scores(tmp_path)
    assert (found.names, found.classes, found.labels.tolist()) == (scores.names, scores.classes, scores.labels.tolist())
    np.testing.assert_array_equal(found.values, scores.values)
    assert found.values.dtype == np.float32 and read_npz(tmp_path / "scores.npz").about == about
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as file:
        assert [str(file[name]) for name in ("selection", "dataset", "split", "stream", "seed")] == [
            *("last epoch", "ntu60", "xsub", "bone", "3")
        ]


def test_an_older_file_without_classes_is_read_alone_and_beside_a_newer_one(tmp_path: Path):
    scores = scores_of()
    write_npz(tmp_path / "scores.npz", given(scores, selection="last epoch"))
    assert read_scores(tmp_path).classes == tuple(f"class {label}" for label in range(7))
    found = read_npz(tmp_path / "scores.npz")
    assert found.about == About("last epoch")
    like, notes = scores_like(found, scores, "xsub")
    assert like.classes == CLASSES and notes == (
        "its file names no classes: they are taken to be in the order of the first entry's",
    )


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", [str, np.str_])
def test_a_pickle_of_the_mmcl_authors_is_matched_by_name_whatever_its_order(tmp_path: Path, protocol: int, kind: type):
    """Their names come from numpy and are NTU's; every protocol of pickle is read."""
    like = scores_of(names=NTU)
    turned = {kind(name): row for name, row in reversed(by_name(like).items())}
    found, notes = scores_like(read_score_file(write_pickle(tmp_path / "J.pkl", turned, protocol)), like, "xsub")
    np.testing.assert_array_equal(found.values, like.values)
    assert found.names == like.names and found.labels.tolist() == like.labels.tolist() and len(notes) == 1


@pytest.mark.parametrize(
    ("split", "order", "said"),
    [
        ("xsub", sorted(NTU, key=lambda name: (name[8:12], name)), "by performer, then name"),
        ("ntu60-xsub", sorted(NTU, key=lambda name: (name[8:12], name)), "by performer, then name"),
        ("xview", sorted(NTU, key=lambda name: (name[4:8], name)), "by camera, then name"),
        ("xset", sorted(NTU), "by setup, then name"),
    ],
)
def test_ctr_gcns_row_numbers_are_given_the_names_of_its_order(tmp_path: Path, split: str, order: list[str], said: str):
    """Their rows go by performer, camera or setup, and within it by name; ours are in the cache's order."""
    mixed = tuple(np.random.default_rng(1).permutation(NTU).tolist())
    like = scores_of(names=mixed)
    rows = {f"test_{row}": by_name(like)[name] for row, name in enumerate(order)}
    found, notes = scores_like(read_score_file(write_pickle(tmp_path / "score.pkl", rows)), like, split)
    np.testing.assert_array_equal(found.values, like.values)
    assert notes[0] == f"its names are row numbers: 24 rows taken for the test clips {said}, as CTR-GCN orders them"


def test_row_numbers_of_a_file_that_was_prepared_without_names_are_its_rows(tmp_path: Path):
    like = scores_of(names=tuple(f"test-{row:06}" for row in range(1, 13)))
    rows = {f"test_{row}": values for row, values in enumerate(like.values)}
    found, _ = scores_like(read_score_file(write_pickle(tmp_path / "score.pkl", rows)), like, "given")
    np.testing.assert_array_equal(found.values, like.values)


@pytest.mark.parametrize(
    ("names", "split", "wanted"),
    [
        ([f"test_{row}" for row in range(23)], "xsub", r"23 clips, numbered 0\.\.22; wanted 24 test clips, 0\.\.23"),
        ([f"train_{row}" for row in range(24)], "xsub", "rows of CTR-GCN's training split, such as train_0"),
        (
            [f"test_{row}" for row in range(24)],
            "random",
            "known of NTU RGB+D's xsub, xview, xset only; .*split random",
        ),
    ],
)
def test_row_numbers_that_can_be_no_rows_of_the_split_are_refused(names: list[str], split: str, wanted: str):
    found = ScoreFile(tuple(names), np.zeros((len(names), 7), np.float32))
    with pytest.raises(ValueError, match=wanted.replace("+", r"\+")):
        scores_like(found, scores_of(names=NTU), split)


def test_numbers_of_a_data_set_with_other_names_are_refused():
    """CTR-GCN numbers NW-UCLA's clips in the order of a list in its code."""
    found = ScoreFile(tuple(map(str, range(40))), np.zeros((40, 7), np.float32))
    with pytest.raises(ValueError, match="row numbers, and CTR-GCN's order is known of NTU"):
        scores_like(found, scores_of(), "xview")


def test_nothing_in_a_pickle_is_run(tmp_path: Path):
    path = write_pickle(tmp_path / "score.pkl", {"clip00": Bomb(tmp_path / "made")})
    with pytest.raises(ValueError, match=r"score\.pkl: not a pickle of arrays.*mkdir, which is not run"):
        read_score_file(path)
    path = write_npz(tmp_path / "score.npz", {"names": ["a"], "scores": np.array([Bomb(tmp_path / "made")], object)})
    with pytest.raises(ValueError, match=r"score\.npz: not an npz of plain arrays, or a damaged one \(Object arrays"):
        read_score_file(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ([np.zeros(7, np.float32)] * 3, "a list without sample names, as PYSKL writes its results"),
        (np.zeros((3, 7), np.float32), "a list without sample names"),
        ({}, "a pickle of a dict; wanted a dict of sample names with their scores"),
        ("scores", "a pickle of a str; wanted a dict"),
        ({"a": np.zeros(7), "b": np.zeros(6)}, r"scores of shapes \[6\], \[7\] a clip; wanted one row of numbers"),
        ({"a": np.zeros((2, 7))}, r"scores of shapes \[2, 7\] a clip"),
        ({"a": "right"}, r"scores of shapes \[\] a clip"),
        ({"1": np.zeros(7), 1: np.zeros(7)}, "1 clips are there more than once: 1"),
        ({"a": np.zeros(7), "b": np.full(7, np.nan)}, r"1 of 2 clips have scores that are no numbers .*: b"),
    ],
)
def test_a_pickle_that_holds_no_scores_by_name_is_refused(tmp_path: Path, content: Any, wanted: str):
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / 'score.pkl'))}: .*{wanted}"):
        read_score_file(write_pickle(tmp_path / "score.pkl", content))


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"names": ["a", "b", "a"]}, "1 clips are there more than once: a"),
        ({"scores": np.array([[1, 2], [1, np.inf], [np.nan, 1]])}, "2 of 3 clips have scores that are no.*: b, c"),
        ({"scores": np.zeros((2, 2))}, r"scores float32 \[2, 2\] for 3 names"),
        ({"scores": [["1", "2"]] * 3}, r"scores <U1 \[3, 2\]; wanted numbers"),
        ({"names": [1, 2, 3]}, r"names int64 \[3\]; wanted a list of text"),
        ({"labels": [0, 1]}, r"labels int64 \[2\] for 3 names; wanted an integer a clip"),
        ({"labels": [0.0, 1.0, 1.0]}, r"labels float64 \[3\] for 3 names"),
    ],
)
def test_an_npz_that_holds_no_scores_by_name_is_refused(tmp_path: Path, changed: dict[str, Any], wanted: str):
    arrays = {"names": ["a", "b", "c"], "scores": np.eye(3, 2), "labels": [0, 1, 1]} | changed
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / 'score.npz'))}: .*{wanted}"):
        read_score_file(write_npz(tmp_path / "score.npz", arrays))


def test_a_file_that_unfolds_to_more_than_any_scores_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A few kilobytes of a zip may stand for all of memory."""
    monkeypatch.setattr("mmcl.trainer.testing.scores.LARGEST", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", names=np.array(["a"]), scores=np.zeros((1, 1 << 20), np.float32))
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 16
    with pytest.raises(ValueError, match=r"bomb.npz: .*unfolds to 4,\d+,\d+ bytes; no score file is that large"):
        read_npz(tmp_path / "bomb.npz")


def test_what_a_score_file_does_not_need_is_not_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stranger's other arrays may be of any size and form: they are not looked at."""
    monkeypatch.setattr("mmcl.trainer.testing.scores.LARGEST", 1 << 20)
    large = {"embeddings": np.zeros((40, 1 << 16), np.float32), "pickled": np.array([{}], object)}
    path = write_npz(tmp_path / "score.npz", given(scores_of(), **large))
    assert path.stat().st_size > 1 << 20
    np.testing.assert_array_equal(read_npz(path).values, scores_of().values)


def test_whatever_bytes_are_damaged_it_is_one_error_that_names_the_file(tmp_path: Path):
    """zipfile, zlib and numpy have an error of their own for each place."""
    whole = io.BytesIO()
    np.savez_compressed(
        whole, allow_pickle=True, **{name: np.array(value) for name, value in given(scores_of()).items()}
    )
    rng, path, refused = np.random.default_rng(0), tmp_path / "score.npz", 0
    for _ in range(400):
        content = bytearray(whole.getvalue())
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_score_file(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    assert refused > 200


def test_a_member_that_is_no_array_is_refused(tmp_path: Path):
    with ZipFile(write_npz(tmp_path / "score.npz", {"scores": np.eye(2)}), "a") as archive:
        archive.writestr("names.npy", b"not an array")
    with pytest.raises(ValueError, match=r"score\.npz: not an npz of plain arrays, .*\(names: no array\)"):
        read_score_file(tmp_path / "score.npz")


def test_more_classes_than_any_data_set_has_are_refused(tmp_path: Path):
    """A table of their confusions would be larger than memory."""
    for values, allowed in ((np.zeros((1, 10_000), np.float32), True), (np.zeros((1, 10_001), np.float32), False)):
        npz = write_npz(tmp_path / "score.npz", {"names": ["a"], "scores": values, "labels": [0]})
        for path in (npz, write_pickle(tmp_path / "score.pkl", {"a": values[0]})):
            if allowed:
                assert read_score_file(path).values.shape == (1, 10_000)
                continue
            with pytest.raises(ValueError, match=r"score\.(npz|pkl): scores of 10,001 classes; wanted 10,000 at most"):
                read_score_file(path)


def test_two_classes_of_one_name_are_refused_before_anything_is_matched(tmp_path: Path):
    """Put in order by name they would take the place of each other."""
    like, twice = scores_of(), ("a", "a", "b", "c", "d", "e", "f")
    wanted = "1 classes are there more than once: a"
    with pytest.raises(ValueError, match=wanted):
        scores_of(classes=twice)
    with pytest.raises(ValueError, match=wanted):
        scores_like(ScoreFile(like.names, like.values, like.labels, twice), like, "xsub")
    write_npz(tmp_path / "scores.npz", given(like, classes=twice))
    with pytest.raises(ValueError, match=wanted):
        read_scores(tmp_path)


def test_a_file_that_lacks_something_is_cut_off_or_absent_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"has no names, but labels, scores; wanted names \[n\] and scores"):
        read_score_file(write_npz(tmp_path / "score.npz", {"scores": np.eye(2), "labels": [0, 1]}))
    whole = write_npz(tmp_path / "whole.npz", given(scores_of())).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:300])
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"one\.npz: not an npz of plain arrays"):
        read_score_file((tmp_path / "one.npy").rename(tmp_path / "one.npz"))
    with pytest.raises(ValueError, match=r"cut\.npz: not an npz of plain arrays, or a damaged one"):
        read_score_file(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError, match=r"gone\.pkl: no such score file"):
        read_score_file(tmp_path / "gone.pkl")


def test_labels_that_name_no_class_are_refused(tmp_path: Path):
    write_npz(tmp_path / "scores.npz", given(scores_of(), labels=np.full(40, 7)))
    with pytest.raises(ValueError, match=r"labels 7\.\.7 for 7 classes; wanted 0\.\.6; run `mmcl evaluate` again"):
        read_scores(tmp_path)


def test_missing_and_unknown_clips_are_counted_and_named():
    like, other = scores_of(), scores_of(names=tuple(f"clip{row:02}" for row in range(34)) + tuple("stuvwx"))
    missing = r"6 of 40 clips are missing \(clip34, clip35, clip36, clip37 and 2 more\)"
    unknown = r"6 of 40 clips are unknown \(s, t, u, v and 2 more\)"
    for refused in (lambda: aligned(other, like), lambda: scores_like(ScoreFile(other.names, other.values), like, "")):
        with pytest.raises(ValueError, match=rf"^{missing}, {unknown}; only scores of the same clips can stand"):
            refused()


def test_other_classes_another_number_of_them_and_other_labels_are_refused():
    like = scores_of()
    with pytest.raises(ValueError, match=r"1 of 7 classes are missing \(g\), 1 of 7 classes are unknown \(h\)"):
        aligned(replace(like, classes=tuple("abcdefh")), like)
    with pytest.raises(ValueError, match="scores of 5 classes, wanted 7"):
        scores_like(ScoreFile(like.names, like.values[:, :5]), like, "xsub")
    labels = like.labels.copy()
    labels[[3, 5]] = 6
    with pytest.raises(ValueError, match="2 clips have another label: clip03, clip05"):
        aligned(replace(like, labels=labels), like)


def test_clips_and_classes_in_another_order_are_put_in_order_by_name():
    like, rng = scores_of(), np.random.default_rng(3)
    rows, columns = rng.permutation(40), rng.permutation(7)
    turned = Scores(
        tuple(like.names[row] for row in rows),
        like.values[rows][:, columns],
        np.argsort(columns)[like.labels[rows]],
        tuple(CLASSES[column] for column in columns),
    )
    assert turned.labels.tolist() != like.labels.tolist()
    for found in (
        aligned(turned, like),
        scores_like(ScoreFile(turned.names, turned.values, turned.labels, turned.classes), like, "")[0],
        scores_like(ScoreFile(turned.names, turned.values, None, turned.classes), like, "")[0],
    ):
        np.testing.assert_array_equal(found.values, like.values)
        assert (found.names, found.classes, found.labels.tolist()) == (like.names, CLASSES, like.labels.tolist())
