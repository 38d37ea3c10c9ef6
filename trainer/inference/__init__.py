"""A trained network outside the lab: predictions, ONNX."""
