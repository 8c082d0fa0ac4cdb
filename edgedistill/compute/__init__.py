"""Devices and processes.

Doors: `accelerator` chooses the device and its formats, `processes` averages over training processes, `transfer` copies
without waiting.
"""
