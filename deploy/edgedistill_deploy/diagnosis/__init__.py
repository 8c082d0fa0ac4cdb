"""Why a model is wrong.

Doors: `faults` recognises known faults by name, `saturation` recognises saturating INT8 kernels, `bisect` finds the
first node at which two models differ.
"""
