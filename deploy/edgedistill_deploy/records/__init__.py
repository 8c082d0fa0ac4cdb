"""Measured records: they are written, and read back with checks.

Doors: `parity` with `classes`, `latency`, `answers`, `decisions`, `explanation` and `layers` define a record, and `model`
its subject. `schema` reads and checks by such a definition, `writing` writes by it, `values` accepts single values.
`reading` reads all records of a bundle and names those that it leaves out. `build` sums up a build. `studies/` has those
of other commands' folders.
"""
