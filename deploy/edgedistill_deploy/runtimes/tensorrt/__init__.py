"""TensorRT 10 and 11: the device that runs an engine builds, proves and keeps it.

Doors, for `runtimes` alone: `adapter` opens a model, `session` runs it.
"""
