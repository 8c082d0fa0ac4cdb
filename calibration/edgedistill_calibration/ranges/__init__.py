"""The ranges of activations, from data.

Doors: `measurement` measures them.
"""
