"""Prepares an ONNX graph for quantisation, and reads its values.

Doors: `preparation` loads, prepares and finishes a graph, `reading` runs it for the values of its tensors, `merging`
makes one graph of several, `pixel_rows` lets a graph normalise its images in rows.
"""
