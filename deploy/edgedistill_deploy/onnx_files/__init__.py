"""An ONNX file read without the onnx library.

Doors: `wire` reads the bytes and alone knows the format; the others are views of it. `safety` refuses a file that
reaches outside or claims more than it holds, `graph` reads and extends the graph, `content` reads its metadata and its
weights, `modules` finds the student's module that a node is of.
"""
