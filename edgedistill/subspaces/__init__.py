"""Evidence, moments, subspaces.

Doors: `finding` passes over the images for all layers at once, `evidence` is what the gradient is taken of, `moments`
accumulates, `directions` makes a layer's subspace of its moments, `files` stores subspaces.
"""
