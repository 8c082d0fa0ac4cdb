"""Measured records: written, and read back with suspicion.

Doors: `parity`, `latency`, `decisions` and `layers` define what a record holds, `model` what it is about. `schema`
reads and checks by such a definition, `writing` writes by it, `values` accepts single values. `reading` reads all that
a bundle has and names what it leaves out, `build` sums up what a build came to.
"""
