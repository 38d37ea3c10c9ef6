"""Joint layouts as data: names, edges (child, parent), the middle of the body, left and right.

One joint has one name in all layouts, so that pipeline/preparation/convert.py can go from one to another by names.
"""

from __future__ import annotations

from ...cache.skeletons import Layout

_ARM, _LEG = ("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot")
_LIMBS = tuple(f"{side} {joint}" for limb in (_ARM, _LEG) for side in ("left", "right") for joint in limb)


def _layout(name: str, joints: tuple[str, ...], parents: str, centre: str) -> Layout:
    """A layout of named joints; `parents` is "child < parent, ...", once for both sides where it names "side"."""
    sided = ((link, side) for link in parents.split(", ") for side in (("left", "right") if "side " in link else ("",)))
    links = [link.replace("side", side).split(" < ") for link, side in sided]
    edges = tuple(sorted((joints.index(child), joints.index(parent)) for child, parent in links))
    lefts = [joint for joint in joints if joint.startswith("left")]
    pairs = tuple((joints.index(left), joints.index(left.replace("left", "right"))) for left in lefts)
    return Layout(name, joints, edges, joints.index(centre), pairs)


# The 20 joints of the first Kinect; data sets differ only in the order of the four trunk joints.
_KINECT_V1_PARENTS = (
    "hip centre < spine, spine < shoulder centre, head < shoulder centre, "
    "side shoulder < shoulder centre, side elbow < side shoulder, side wrist < side elbow, side hand < side wrist, "
    "side hip < hip centre, side knee < side hip, side ankle < side knee, side foot < side ankle"
)
KINECT_V1 = _layout(
    "kinect-v1", ("hip centre", "spine", "shoulder centre", "head", *_LIMBS), _KINECT_V1_PARENTS, "spine"
)
KINECT_V1_UTD = _layout(
    "kinect-v1-utd", ("head", "shoulder centre", "spine", "hip centre", *_LIMBS), _KINECT_V1_PARENTS, "spine"
)
# The second Kinect, as NTU RGB+D uses it and CTR-GCN draws its bones.
KINECT_V2 = _layout(
    "kinect-v2",
    (
        *("spine base", "spine middle", "neck", "head", *_LIMBS),
        *("spine shoulder", "left hand tip", "left thumb", "right hand tip", "right thumb"),
    ),
    "spine base < spine middle, spine middle < spine shoulder, neck < spine shoulder, head < neck, "
    "side shoulder < spine shoulder, side elbow < side shoulder, side wrist < side elbow, side hand < side wrist, "
    "side hip < spine base, side knee < side hip, side ankle < side knee, side foot < side ankle, "
    "side hand tip < side thumb, side thumb < side hand",
    "spine middle",
)
# COCO's 17 keypoints, with the tree of PYSKL's graph: no joint in the trunk, all hangs from the nose.
COCO_17 = _layout(
    "coco-17",
    (
        "nose",
        *("left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder"),
        *("left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip"),
        *("left knee", "right knee", "left ankle", "right ankle"),
    ),
    "side eye < nose, side ear < side eye, side shoulder < nose, side elbow < side shoulder, side wrist < side elbow, "
    "side hip < side shoulder, side knee < side hip, side ankle < side knee",
    "nose",
)
# The 17 of Human3.6M's 32 markers that pose estimation uses; "neck" is its "Neck/Nose", half way from thorax to head.
H36M_17 = _layout(
    "h36m-17",
    (
        *("pelvis", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle"),
        *("spine", "thorax", "neck", "head"),
        *("left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist"),
    ),
    "spine < pelvis, thorax < spine, neck < thorax, head < neck, "
    "side hip < pelvis, side knee < side hip, side ankle < side knee, "
    "side shoulder < thorax, side elbow < side shoulder, side wrist < side elbow",
    "spine",
)

LAYOUTS = {layout.name: layout for layout in (KINECT_V1, KINECT_V1_UTD, KINECT_V2, COCO_17, H36M_17)}
