"""Measurements of time, and what is concluded from them.

Doors: `measurement` times a session, `comparison` compares two records, `interleaved` compares models in alternating
blocks, `budget` compares a percentile with a limit, `sustained` times images that arrive at a rate, `end_to_end` starts
from a JPEG, `layer_times` times single nodes.
"""
