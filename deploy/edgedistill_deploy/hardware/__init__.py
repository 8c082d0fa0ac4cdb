"""What this machine is, its state, and its power.

Doors: `device` describes the machine and reads its state. `power` measures the energy of inferences.
`memory` says how much is free, and how much was held.
"""
