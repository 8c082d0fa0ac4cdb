"""The two INT8 files.

Doors: `request` says what is asked for, `files` makes them, `exclusions` decides which nodes are left in float.
"""
