"""The losses that train a student.

Doors: `subspace_loss` has the layer and logit losses, `polar` the closed form of its rotation, `baselines` those of the
rivals, `several_teachers` makes one answer of those of several teachers.
"""
