"""Why a model is wrong.

Doors: `faults` names the known faults that are recognised, `saturation` whether INT8 kernels saturate here, `bisect`
finds the first node at which two models part.
"""
