"""An ONNX file read without the onnx library.

Doors: `wire` reads the bytes, and only it knows the format. `safety` refuses a file that reaches outside or claims more
than it holds. `graph` reads and extends the graph. `content` reads metadata, weights and arithmetic. `modules` finds
the student's module of a node.
"""
