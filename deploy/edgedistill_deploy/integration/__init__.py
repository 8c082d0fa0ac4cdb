"""From the bundle into a device and an application.

Doors: `packing` makes the smallest bundle that a device needs. `snippet` writes a program for one bundle.
"""
