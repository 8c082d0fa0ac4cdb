"""TensorRT 10 and 11: an engine is built, proved and kept on the device that runs it.

Doors, for `runtimes` alone: `adapter` opens a model, `session` runs it.
"""
