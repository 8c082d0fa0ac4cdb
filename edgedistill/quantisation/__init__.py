"""INT8 as seen from torch.

Doors: `readiness` tells how fragile a student is before INT8, `recovery` distils on under quantisation,
`fake_quantisation` computes as the INT8 file does.
"""
