"""Looking inside a network, leaving no trace.

Doors: `layers` captures what layers return, `pairing` pairs a teacher's with a student's, `maps` reads the outputs as
maps, `modes` keeps the mode of training, `tensor_calls` watches the operations of a forward pass, `cost` counts,
`logits` restricts an output to the subtask.
"""
