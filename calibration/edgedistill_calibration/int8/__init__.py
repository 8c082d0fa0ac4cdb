"""The two INT8 files.

Doors: `request` is the input, `files` makes the files, `exclusions` decides which nodes are left in float.
"""
