"""An exported network in ONNX Runtime alone: python onnx_predict.py model.onnx clip.npy [clip.npy ...]

A clip is joints [bodies, frames, joints, 3], or [frames, joints, 3] of one body, in the file's own layout.
It prints a JSON line a clip: the class, its probability, and the scores of all classes.
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
classes, slots = json.loads(about["classes"]), int(about["slots"])

clips = [np.load(path, allow_pickle=False) for path in sys.argv[2:]]
clips = [clip[None] if clip.ndim == 3 else clip for clip in clips]
lengths = np.array([clip.shape[1] for clip in clips], np.int64)
joints = np.zeros((len(clips), slots, lengths.max(), *clips[0].shape[2:]), np.float32)  # absent bodies stay zero
for into, clip in zip(joints, clips, strict=True):
    into[: len(clip), : clip.shape[1]] = clip

scores, probabilities = session.run(["scores", "probabilities"], {"joints": joints, "lengths": lengths})
for path, row, shares in zip(sys.argv[2:], scores, probabilities, strict=True):
    best = int(shares.argmax())
    print(
        json.dumps({"clip": path, "class": classes[best], "probability": float(shares[best]), "scores": row.tolist()})
    )
