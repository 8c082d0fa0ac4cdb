"""Evidence, moments, subspaces.

Doors: `finding` finds the subspaces of all layers in one pass, `moments` accumulates what they are found from, `evidence` is what the
gradient is taken of.
"""
