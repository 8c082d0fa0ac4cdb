"""What a student is trained by.

Doors: `subspace_loss` has the layer and logit losses, `baselines` those of the rivals.
"""
