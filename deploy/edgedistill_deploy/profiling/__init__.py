"""Profiles of a bundle's models, each measured in a fresh process.

Doors: `request` holds what to measure, `run` measures it on this machine, `cold_start` times new processes.
"""
