"""A network trained on skeletons alone, and tested: python api_train.py DATA OUT; run again, it resumes."""

import sys

import mmcl

settings = {"split": "xsub", "epochs": 2, "width": 8, "window": 16, "batch": 4, "warmup": 0}  # keys of the config
run = mmcl.train(sys.argv[1], sys.argv[2], rgb="none", text="none", **settings)
result = mmcl.evaluate(run)
print(f"top-1 {result.metrics.top1:.1%} of {result.metrics.clips} clips; chance is {result.metrics.chance:.1%}")
