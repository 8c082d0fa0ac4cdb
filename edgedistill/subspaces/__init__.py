"""Evidence, moments, subspaces.

Doors: `finding` passes over the images for all layers at once, `evidence` has the scalar whose gradient is taken,
`moments` accumulates, `directions` makes a layer's subspace from its moments, `files` stores subspaces.
"""
