"""INT8 as seen from torch.

Doors: `readiness` tells how fragile a student is before INT8, `recovery` continues the training under quantisation,
`fake_quantisation` computes in torch what the INT8 file computes.
"""
