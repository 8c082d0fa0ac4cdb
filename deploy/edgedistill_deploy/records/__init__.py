"""Measured records: they are written, and read back with checks.

Doors: `parity` with `classes`, `latency`, `answers`, `decisions`, `explanation`, `layers` define a record. `model` is
the subject of a record. `schema` reads and checks by such a definition, `writing` writes by it, `values` accepts single
values. `reading` reads all records of a bundle and names those that it leaves out. `build` sums up a build. `studies/`
has those of `compare` and `plan`.
"""
