"""Joint layouts as data: names, edges (child, parent), the middle of the body, left and right."""

from __future__ import annotations

from ..cache.skeletons import Layout

_LIMBS = ("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot")
_NAMES = tuple(f"{side} {joint}" for limb in _LIMBS for side in ("left", "right") for joint in limb)


def _kinect_v1(name: str, trunk: tuple[str, str, str, str]) -> Layout:
    """The 20 joints of the first Kinect; data sets differ only in the order of the four trunk joints."""
    joints = (*trunk, *_NAMES)
    parents = {"hip centre": "spine", "spine": "shoulder centre", "head": "shoulder centre"}
    for start in range(0, len(_NAMES), 4):
        limb = _NAMES[start : start + 4]
        parents[limb[0]] = "shoulder centre" if "shoulder" in limb[0] else "hip centre"
        parents |= dict(zip(limb[1:], limb[:-1], strict=True))
    edges = tuple((joints.index(child), joints.index(parents[child])) for child in joints if child in parents)
    lefts = [joint for joint in joints if joint.startswith("left")]
    pairs = tuple((joints.index(left), joints.index(left.replace("left", "right"))) for left in lefts)
    return Layout(name, joints, edges, joints.index("spine"), pairs)


KINECT_V1 = _kinect_v1("kinect-v1", ("hip centre", "spine", "shoulder centre", "head"))
KINECT_V1_UTD = _kinect_v1("kinect-v1-utd", ("head", "shoulder centre", "spine", "hip centre"))
KINECT_V2 = Layout(
    "kinect-v2",
    (
        *("spine base", "spine middle", "neck", "head"),
        *("left shoulder", "left elbow", "left wrist", "left hand"),
        *("right shoulder", "right elbow", "right wrist", "right hand"),
        *("left hip", "left knee", "left ankle", "left foot"),
        *("right hip", "right knee", "right ankle", "right foot"),
        *("spine shoulder", "left hand tip", "left thumb", "right hand tip", "right thumb"),
    ),
    tuple(
        (child - 1, parent - 1)
        for child, parent in (
            *((1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)),
            *((13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19)),
            *((22, 23), (23, 8), (24, 25), (25, 12)),
        )
    ),
    centre=1,
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23), (22, 24)),
)

LAYOUTS = {layout.name: layout for layout in (KINECT_V1, KINECT_V1_UTD, KINECT_V2)}
