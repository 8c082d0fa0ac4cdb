"""Which pixels a network's answer rests on, and whether teacher and student answer for the same reasons.

Doors: `attribution` makes maps of relevance; `evidence` is the number that they explain.
"""
