"""Measured records: written, and read back with suspicion.

Doors: `writing` writes a record, `reading` reads all that a bundle has and names what it leaves out, `layers` is about the time of
single nodes, `build` sums up what a build came to, `values` takes single values out of a record.
"""
