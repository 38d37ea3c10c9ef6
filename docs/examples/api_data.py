"""A prepared data set and one of its feature caches: python api_data.py DATA MODEL"""

import sys

import mmcl

data = mmcl.open_dataset(sys.argv[1])
print(f"{data.dataset}: {len(data.names)} clips of {len(data.classes)} classes, {data.layout.name}, {data.coordinates}")
row = 0
joints = data.joints[row].reshape(data.bodies[row], data.frames[row], -1, 3)
print(data.names[row], data.classes[data.labels[row]], joints.shape)

cache = mmcl.open_cache(sys.argv[1], sys.argv[2])  # by its model or its key
features = cache.array("feature")  # a memory map, a row a clip; joined by name, never by place
feature = features[cache.row_of[data.names[row]]]
print(cache.recipe.model, feature.shape, f"{len(cache.failures)} clips without features")
