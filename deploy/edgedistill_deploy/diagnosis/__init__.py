"""Why a model is wrong.

Doors: `faults` recognises known faults by name, `runtime_faults` recognises a runtime that computes something else than
the file means, `bisect` finds the first node at which two models differ.
"""
