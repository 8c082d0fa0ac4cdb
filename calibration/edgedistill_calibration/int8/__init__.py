"""The two INT8 files.

Doors: `files` makes those of a bundle, `exclusions` decides which nodes are left in float.
"""
