"""What this machine is, its state, and its power.

Doors: `device` describes the machine and reads its state. `int8_outlook` says what to expect of
INT8 on it. `power` measures the energy of inferences. `memory` says how much is free, and how much was held.
"""
