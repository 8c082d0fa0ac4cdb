"""Looking inside a network without changing it.

Doors: `layers` captures layers' outputs, `pairing` pairs a teacher's layers with a student's, `maps` reads outputs as
maps, `modes` keeps the mode of training, `tensor_calls` watches the operations of a forward pass, `cost` counts,
`logits` restricts an output to the subtask, `trial` runs one batch.
"""
