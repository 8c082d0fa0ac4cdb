"""What this machine is, how it feels, what it draws.

Doors: `device` describes the machine and reads its state, `power` measures the energy of what runs.
"""
