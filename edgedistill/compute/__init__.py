"""Devices and processes.

Doors: `accelerator` chooses the device and its formats, `processes` averages over training processes, `memory` says how
much memory is free, `transfer` copies without waiting.
"""
