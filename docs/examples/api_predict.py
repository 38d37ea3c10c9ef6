"""What a clip shows: python api_predict.py RUN CLIP.npy, an array [bodies, frames, joints, 3] as the run's data are."""

import sys

import numpy as np

import mmcl

network = mmcl.load_run(sys.argv[1])  # a run's folder, or an .onnx file of `mmcl export`
joints = np.load(sys.argv[2])
for name, probability in network.predict(joints, top=3):
    print(f"{probability:6.1%}  {name}")

several = network.predict([joints, joints[:, ::2]])  # clips of any length, together
scores = network.scores([joints])  # float32 [1, K], before the softmax
print(several[1][0].name, scores.shape)
