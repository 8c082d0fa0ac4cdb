"""An ONNX file read without the onnx library.

Doors: `wire` reads the bytes, and only it knows the format. `safety` refuses a file that reaches outside, claims more
than it holds or costs more than it may. `cost` tells what an image costs. `graph` reads and extends the graph.
`content` reads metadata and weights. `modules` finds the student's module of a node.
"""
