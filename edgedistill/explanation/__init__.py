"""For which reasons teacher and student answer: maps of relevance, their agreement, and pixel flipping.

Doors: `explaining` explains a student beside its teacher and keeps the record; `attribution` makes maps, `evidence` is
the number that they explain; `agreement` compares two maps, `flipping` tests them on the networks, `inpainting` fills
what is taken out; `pictures` draws maps, `summary` makes the record; `config` has the settings, without torch.
"""
