"""An ONNX graph prepared for quantisation, and read.

Doors: `preparation` loads, prepares and finishes a graph, `reading` runs it for the values of its tensors.
"""
