"""Each sample gets its own video, by its name or by a pattern, or none; never another's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mmcl.cache.skeletons import TRAIN, Layout, Skeletons, Split
from mmcl.cache.table import Ragged
from mmcl.pipeline.videos.find_videos import find_videos
from mmcl.pipeline.videos.video import SUFFIXES, has_suffix
from mmcl.pipeline.videos.video_pattern import find_by_pattern


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (["a.mp4", "b.mp4"], "{name}"),
        (["one/a_rgb.avi", "two/b_rgb.avi"], "{name}_rgb"),
        (["a_color.avi", "b_color.AVI"], "{name}_color"),
        (["a_depth.mp4", "b_depth.mp4"], "{name}_depth"),
        (["a.avi", "b.mp4"], "{name}"),
        (["a_rgb.mp4", "b_rgb.mp4", "a_depth.mp4", "b_depth.mp4"], "{name}_rgb"),
        (["a.mp4", "b.mp4", "a.txt", "b.npy", "other.mp4"], "{name}"),
    ],
)
def test_videos_are_found_by_name_anywhere_under_the_folder(tmp_path: Path, files: list[str], pattern: str):
    found = find_videos(touch(tmp_path, *files), ["a", "b"])
    assert found.pattern == pattern
    assert [found.paths[name] for name in "ab"] == [tmp_path / file for file in files[:2]]


@pytest.mark.parametrize(
    ("files", "pattern", "paths"),
    [
        (["a/000001.jpg", "b/000001.jpg"], "{name}", ["a", "b"]),
        (["x/a_rgb/img_1.png", "y/b_rgb/img_1.png"], "{name}_rgb", ["x/a_rgb", "y/b_rgb"]),
        (["a/frame_1_rgb.jpg", "a/frame_1_depth.png", "a/x.txt", "b.mp4"], "{name}", ["a", "b.mp4"]),
        (["a/a.mp4", "b/clip/b.mp4", "other/1.jpg"], "{name}", ["a/a.mp4", "b/clip/b.mp4"]),
        (["a_rgb.mp4", "b_rgb.mp4", "a/1.jpg"], "{name}_rgb", ["a_rgb.mp4", "b_rgb.mp4"]),
    ],
)
def test_a_folder_of_images_is_a_video(tmp_path: Path, files: list[str], pattern: str, paths: list[str]):
    found = find_videos(touch(tmp_path, *files), ["a", "b"])
    assert found.pattern == pattern
    assert [found.paths[name] for name in "ab"] == [tmp_path / path for path in paths]


def test_a_folder_of_images_may_be_a_link(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a").symlink_to(touch(tmp_path / "elsewhere", "1.jpg"))
    assert find_videos(tmp_path / "videos", ["a"]).paths == {"a": tmp_path / "videos" / "a"}


def test_northwestern_uclas_views_are_part_of_the_name(tmp_path: Path):
    """There the same clip is a folder in each of three folders, view_1 to view_3; its skeletons are called so."""
    names = [f"a01_s01_e00_v0{view}" for view in (1, 2, 3)]
    touch(tmp_path, *(f"multiview_action/view_{view}/a01_s01_e00/frame_0_tc_7_rgb.jpg" for view in (1, 2, 3)))
    found = find_videos(tmp_path, names)
    assert found.pattern == "{name}"
    assert [found.paths[name].parent.name for name in names] == ["view_1", "view_2", "view_3"]


def test_the_frames_of_a_wanted_clip_are_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """114,480 folders of a hundred images are found without a look at all of them."""
    touch(tmp_path, *(f"{name}/{number}.jpg" for name in "ab" for number in range(50)))
    looked = list[str]()
    monkeypatch.setattr(
        "mmcl.pipeline.videos.find_videos.has_suffix",
        lambda file, suffixes: looked.append(file) or has_suffix(file, suffixes),
    )
    assert set(find_videos(tmp_path, ["a", "b"]).paths) == {"a", "b"}
    assert len(looked) == 2


def test_a_sample_without_a_video_has_none_and_it_is_said_what_was_looked_for(tmp_path: Path):
    found = find_videos(touch(tmp_path, "a_rgb.mp4", "c_rgb.mp4"), ["a", "b", "c"])
    assert {name: path.name for name, path in found.paths.items()} == {"a": "a_rgb.mp4", "c": "c_rgb.mp4"}
    assert found.missing == {"b": "b_rgb"}


def test_two_videos_of_one_name_are_refused(tmp_path: Path):
    touch(tmp_path, "x/a.mp4", "y/a.avi")
    with pytest.raises(
        ValueError, match=r"a: 2 videos of this name \(.*x/a\.mp4, .*y/a\.avi\); give the folder of one kind"
    ):
        find_videos(tmp_path, ["a"])


def test_a_video_and_a_folder_of_images_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"a: 2 videos of this name \(.*x/a, .*y/a\.mp4\)"):
        find_videos(touch(tmp_path, "x/a/1.jpg", "y/a.mp4"), ["a"])


def test_no_video_at_all_is_refused_with_what_was_looked_for_and_what_was_there(tmp_path: Path):
    touch(tmp_path, "S001.mp4", "S002/1.jpg", "notes.txt")
    looked = rf"looked for a_rgb, a_color, a, a_depth \({' '.join(SUFFIXES)}\)"
    wanted = f"no video of any of 2 samples; {looked}; found S001, S002; say how they are called with --video-pattern"
    with pytest.raises(ValueError, match=wanted):
        find_videos(tmp_path, ["a", "b"])
    with pytest.raises(FileNotFoundError, match="no such folder of videos"):
        find_videos(tmp_path / "nowhere", ["a"])


# -- the data sets' own layouts

NTU = ("S001C001P001R001A001", "S001C002P001R001A001", "S018C001P045R002A120")


def test_ntu_rgb_d(tmp_path: Path):
    """Infrared videos and masked depth maps lie beside the colour videos, whole; the depth maps' folders are walked."""
    touch(tmp_path, *(f"nturgb+d_rgb/{name}_rgb.avi" for name in NTU))
    touch(tmp_path, *(f"nturgb+d_ir/{name}_ir.avi" for name in NTU))
    touch(tmp_path, *(f"nturgb+d_depth_masked/{name}/MDepth-00000001.png" for name in NTU))
    found = find_videos(tmp_path, NTU)
    assert found.pattern == "{name}_rgb"
    assert found.paths == {name: tmp_path / f"nturgb+d_rgb/{name}_rgb.avi" for name in NTU}


def test_utd_mhad(tmp_path: Path):
    names = [f"a{action}_s1_t{trial}" for action in (1, 10, 27) for trial in (1, 2)]
    touch(tmp_path, *(f"RGB/{name}_color.avi" for name in names), *(f"Depth/{name}_depth.mat" for name in names))
    found = find_videos(tmp_path, names)
    assert found.pattern == "{name}_color"
    assert found.paths == {name: tmp_path / f"RGB/{name}_color.avi" for name in names}
    for name in names:
        (tmp_path / f"RGB/{name}_color.avi").rename(tmp_path / f"Depth/{name}_depth.mp4")
    assert find_videos(tmp_path, names).pattern == "{name}_depth"


@pytest.mark.parametrize(
    ("file", "pattern", "path"),
    [("rgb/00001.jpg", "{name}_rgb", "rgb"), ("00001.jpg", "{name}", ""), ("color.avi", "{name}_color", "color.avi")],
    ids=["as it is published", "pictures", "video"],
)
def test_sysu(tmp_path: Path, file: str, pattern: str, path: str):
    """A clip is a folder in its person's; of the pictures in it those of the folder rgb are meant."""
    names = ["cailu_video1", "cailu_video12", "liang_video1"]
    for name in names:
        clip = f"SYSU3DAction/3DvideoNorm/{name.replace('_', '/')}"
        touch(tmp_path, f"{clip}/sklWorld.mat", f"{clip}/{file}", f"{clip}/depth/1.png" if "/" in file else file)
    found = find_videos(tmp_path, names)
    assert found.pattern == pattern
    clips = tmp_path / "SYSU3DAction" / "3DvideoNorm"
    assert found.paths == {name: clips / name.replace("_", "/") / path for name in names}


def test_ones_own_clips_that_are_named_after_their_classes_folder(tmp_path: Path):
    touch(tmp_path, "videos/walk/1.mp4", "videos/run/1.mp4", "videos/run/2.mp4")
    names = ["walk_1", "run_1", "run_2"]
    paths = {name: tmp_path / "videos" / f"{name.replace('_', '/')}.mp4" for name in names}
    assert find_videos(tmp_path, names).paths == paths


@pytest.mark.parametrize("file", ["rgb/1.jpg", "rgb.mkv"])
def test_a_clips_own_folder_may_hold_its_video_beside_other_things(tmp_path: Path, file: str):
    touch(tmp_path, *(f"{name}/{other}" for name in "ab" for other in (file, "depth/1.png", "ir.avi")))
    found = find_videos(tmp_path, ["a", "b"])
    assert found.pattern == "{name}_rgb"
    assert found.paths == {name: tmp_path / name / file.removesuffix("/1.jpg") for name in "ab"}


# -- a pattern


def skeletons(
    names: Sequence[str], labels: Sequence[str] | None = None, columns: Mapping[str, Sequence[int]] | None = None
) -> Skeletons:
    """Clips of these names, classes and columns."""
    count, said = len(names), labels or ["wave"] * len(names)
    classes = tuple(dict.fromkeys(said))
    return Skeletons(
        dataset="mine",
        classes=classes,
        layout=Layout("point", ("it",), (), 0),
        names=tuple(names),
        labels=np.array([classes.index(label) for label in said]),
        bodies=np.ones(count, np.int64),
        joints=Ragged.of([np.zeros((1, 1, 3), np.float32)] * count),
        splits={"all": Split(np.full(count, TRAIN, np.int8))},
        columns={name: np.array(values) for name, values in (columns or {}).items()},
    )


AB = skeletons(["a", "b"], ["wave", "sit down"], {"setup": [1, 12], "trial": [3, 3]})


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("{name}.mp4", ["a.mp4", "b.mp4"]),
        ("./videos//{name}_x.AVI", ["videos/a_x.AVI", "videos/b_x.AVI"]),
        ("S{setup:03}/{name}_rgb.avi", ["S001/a_rgb.avi", "S012/b_rgb.avi"]),
        ("{setup}/{setup:2}/{setup:02d}.avi", ["1/ 1/01.avi", "12/12/12.avi"]),
        ("{label}/t{trial}_{setup}.mp4", ["wave/t3_1.mp4", "sit down/t3_12.mp4"]),
        ("{name}", ["a/1.jpg", "b/1.jpg"]),
        ("{name}/rgb", ["a/rgb/1.jpg", "b/rgb/1.jpg"]),
        ("{name}*.mp4", ["a_9_20.mp4", "b.mp4"]),
        ("{name}_*_{trial}*", ["a_x_3.mkv", "b_y_3_rgb/1.jpg"]),
        ("*_{name}.mp4", ["9_a.mp4", "_b.mp4"]),
        ("*{name}*", ["9a9.mp4", "b.mp4"]),
        ("*/{name}.mp4", ["one/a.mp4", "two/b.mp4"]),
        ("s*{setup:03}/*/{name}.mp4", ["s001/x/a.mp4", "setup012/y/b.mp4"]),
        ("{{{name}}}.mp4", ["{a}.mp4", "{b}.mp4"]),
        ("{name}[1].mp4", ["a[1].mp4", "b[1].mp4"]),
        ("{name}", ["a", "b"]),
    ],
)
def test_a_pattern_says_where_each_samples_video_is(tmp_path: Path, pattern: str, files: list[str]):
    """Files beside them that do not fit change nothing."""
    touch(tmp_path, *files, "cd.mp4", "notes.txt", ".a.mp4", "other/c.mp4", "S001/ab_rgb.avi")
    found = find_by_pattern(tmp_path, pattern, AB)
    paths = [tmp_path / file.removesuffix("/1.jpg") for file in files]
    assert list(found.paths.items()) == list(zip("ab", paths, strict=True))
    assert found.missing == {}


def test_a_samples_name_with_a_star_is_no_glob(tmp_path: Path):
    touch(tmp_path, "a*.mp4", "ab.mp4", "a*_1.mkv", "ab_1.mkv")
    starred = skeletons(["a*"])
    assert find_by_pattern(tmp_path, "{name}.mp4", starred).paths == {"a*": tmp_path / "a*.mp4"}
    assert find_by_pattern(tmp_path, "{name}_*.mkv", starred).paths == {"a*": tmp_path / "a*_1.mkv"}


@pytest.mark.parametrize(
    ("pattern", "file"), [("{name}_*_x.mp4", "b_x.mp4"), ("{name}*", "b.txt"), ("*{name}", ".b/1.jpg")], ids=str
)
def test_a_star_stands_for_text_of_its_own_in_the_name_of_a_video_that_is_not_hidden(
    tmp_path: Path, pattern: str, file: str
):
    a = pattern.format(name="a").replace("*", "0")
    assert set(find_by_pattern(touch(tmp_path, f"{a}/1.jpg", file), pattern, AB).paths) == {"a"}


def test_by_a_pattern_too_a_sample_without_a_video_has_none(tmp_path: Path):
    three = skeletons(["a", "b", "c"], columns={"setup": [1, 2, 2]})
    found = find_by_pattern(touch(tmp_path, "S1/a_x.mp4", "S2/c_x.mp4", "S2/bb_x.mp4"), "S{setup}/{name}_*.mp4", three)
    assert found.paths == {"a": tmp_path / "S1" / "a_x.mp4", "c": tmp_path / "S2" / "c_x.mp4"}
    assert found.missing == {"b": "S2/b_*.mp4"}


@pytest.mark.parametrize("pattern", ["S{setup:03}/{name}_rgb.avi", "*/{name}_rgb.avi", "S*/{name}*"])
def test_it_makes_no_difference_whether_the_same_videos_were_found_by_name_or_by_a_pattern(
    tmp_path: Path, pattern: str
):
    """The name is part of what person images are known by: those that are there stay in use."""
    touch(tmp_path, "S001/a_rgb.avi", "S012/b_rgb.avi")
    assert find_by_pattern(tmp_path, pattern, AB) == find_videos(tmp_path, ["a", "b"])


def test_the_same_is_true_of_northwestern_uclas_and_sysus_folders(tmp_path: Path):
    ucla = skeletons(["a01_s01_e00_v01", "a01_s01_e00_v02"], columns={"view": [1, 2]})
    touch(tmp_path, *(f"ucla/view_{view}/a01_s01_e00/frame_0_tc_7_rgb.jpg" for view in (1, 2)))
    found = find_by_pattern(tmp_path / "ucla", "view_{view}/a01_s01_e00", ucla)
    assert found == find_videos(tmp_path / "ucla", ucla.names)
    assert found.pattern == "{name}"
    sysu = skeletons(["liang_video1", "liang_video2"], columns={"action": [1, 2]})
    touch(tmp_path, *(f"sysu/liang/video{action}/rgb/1.jpg" for action in (1, 2)))
    assert find_by_pattern(tmp_path / "sysu", "liang/video{action}/rgb", sysu) == find_videos(
        tmp_path / "sysu", sysu.names
    )


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{label}/t{trial}_{setup}.mp4", "t{trial}_{setup}"),
        ("{name}_{setup}.mp4", "{name}_{setup}"),
        ("{trial}/{setup}/depth.mkv", "depth"),
    ],
)
def test_videos_that_are_not_called_by_their_samples_go_by_the_end_of_the_pattern(
    tmp_path: Path, pattern: str, name: str
):
    for row, label in enumerate(("wave", "sit down")):
        values = {"name": "ab"[row], "label": label, "setup": (1, 12)[row], "trial": 3}
        touch(tmp_path, pattern.format(**values))
    assert find_by_pattern(tmp_path, pattern, AB).pattern == name


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{nmae}.mp4", "no field 'nmae': did you mean name? there are name, label, setup, trial"),
        ("{view}.mp4", "no field 'view': there are name, label, setup, trial"),
        ("{}.mp4", "no field '': there are name"),
        ("{0}.mp4", "no field '0': there are name"),
        ("{name.__class__}", "no field 'name.__class__'"),
        ("{name[0]}", "no field 'name[0]'"),
        ("{setup.real}", "no field 'setup.real'"),
        ("{name!r}.mp4", "{name!r}: only a number takes a format, such as :03"),
        ("{name:>999999999}", "{name:>999999999}: only a number"),
        ("{label:3}", "{label:3}: only a number"),
        ("{setup:0999999999}", "{setup:0999999999}: only a number"),
        ("{setup:{trial}}", "{setup:{trial}}: only a number"),
        ("{setup:f}", "{setup:f}: only a number"),
        ("{name", "expected '}' before end of string; a brace of a file's name is written twice"),
        ("name}", "Single '}' encountered"),
        ("{name/x}", "expected '}' before end of string"),
        ("/videos/{name}.mp4", "wanted a path inside --videos, such as {name}_rgb.avi"),
        ("../{name}.mp4", "wanted a path inside --videos"),
        ("a/../../{name}.mp4", "wanted a path inside --videos"),
        ("", "wanted a path inside --videos"),
        (".", "wanted a path inside --videos"),
    ],
)
def test_what_is_no_pattern_is_refused(tmp_path: Path, pattern: str, message: str):
    with pytest.raises(ValueError) as error:
        find_by_pattern(touch(tmp_path, "a.mp4"), pattern, AB)
    assert str(error.value).startswith(f"--video-pattern {pattern!r}: ")
    assert message in str(error.value)


@pytest.mark.parametrize("label", ["..", "../x", "/etc", "x/y", "x\0y"])
def test_a_class_that_would_lead_elsewhere_is_refused(tmp_path: Path, label: str):
    """It comes from a stranger's table."""
    with pytest.raises(ValueError, match="is no name of a file or folder inside --videos"):
        find_by_pattern(touch(tmp_path / "in", "x.mp4").parent, "in/{label}/{name}.mp4", skeletons(["a"], [label]))


def test_a_pattern_that_fits_no_sample_is_refused_with_the_first_path_and_what_is_there(tmp_path: Path):
    touch(tmp_path, "S001/c.avi", "S001/d.avi", "S001/e.avi", "S001/f.avi")
    with pytest.raises(ValueError) as error:
        find_by_pattern(tmp_path, "S{setup:03}/{name}_*.avi", AB)
    assert str(error.value) == (
        f"{tmp_path}: none of 2 samples has a video at S{{setup:03}}/{{name}}_*.avi; looked for S001/a_*.avi first; "
        f"in {tmp_path}/S001 there is c.avi, d.avi, e.avi"
    )
    with pytest.raises(ValueError, match=rf"looked for x/S\*/a first; in {tmp_path} there is S001$"):
        find_by_pattern(tmp_path, "x/S*/{name}", AB)
    with pytest.raises(FileNotFoundError, match="no such folder of videos"):
        find_by_pattern(tmp_path / "nowhere", "{name}", AB)


@pytest.mark.parametrize("files", [["a_1.mp4", "a_2.mp4"], ["a_1.mp4", "a_1/1.jpg"], ["a_1.mp4", "a_1.avi"]])
def test_two_videos_that_fit_one_sample_are_refused(tmp_path: Path, files: list[str]):
    with pytest.raises(ValueError, match=r"a: 2 videos fit {name}_\* \(.*a_1.*, .*a_.*\); say more in --video-pattern"):
        find_by_pattern(touch(tmp_path, *files), "{name}_*", AB)


@pytest.mark.parametrize("pattern", ["t{trial}.mp4", "t3.mp4", "*.mp4"])
def test_one_video_for_two_samples_is_refused(tmp_path: Path, pattern: str):
    with pytest.raises(ValueError, match=r"t3\.mp4: the video of both a and b by .*; say in --video-pattern by what"):
        find_by_pattern(touch(tmp_path, "t3.mp4"), pattern, AB)


def test_a_video_that_fits_a_longer_name_is_not_taken_for_it_silently(tmp_path: Path):
    """a1* fits a10's video too; where a1 has none, both would be shown the same."""
    with pytest.raises(ValueError, match="the video of both a1 and a10"):
        find_by_pattern(touch(tmp_path, "a10_rgb.mp4"), "{name}*", skeletons(["a1", "a10"]))


def test_a_folder_is_listed_once_however_many_videos_are_looked_for_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a network disk a look at each of 114,480 files would take minutes."""
    names = [f"S{setup:03}C{camera:03}" for setup in (1, 2) for camera in range(50)]
    many = skeletons(names, columns={"setup": [int(name[1:4]) for name in names]})
    touch(tmp_path, *(f"S{name[1:4]}/{name}_rgb.avi" for name in names))
    listed, real = list[str](), os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(str(folder)) or real(folder))
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: pytest.fail("a file was looked at"))
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    found = [find_by_pattern(tmp_path, f"S{{setup:03}}/{{name}}{end}", many) for end in ("_rgb.avi", "*.avi")]
    assert [len(one.paths) for one in found] == [100, 100]
    assert listed == [f"{tmp_path}/S001", f"{tmp_path}/S002"] * 2


def test_a_clips_own_folder_of_many_frames_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "a/rgb/1.jpg", "b/rgb/1.jpg")
    monkeypatch.setattr(os, "scandir", lambda folder: pytest.fail(f"{folder} was listed"))
    assert len(find_by_pattern(tmp_path, "{name}/rgb", AB).paths) == 2


def test_a_link_to_a_folder_of_frames_is_one(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a_1").symlink_to(touch(tmp_path / "elsewhere", "1.jpg"))
    assert find_by_pattern(tmp_path / "videos", "{name}_*", AB).paths == {"a": tmp_path / "videos" / "a_1"}
