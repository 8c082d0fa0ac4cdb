"""The same measuring on a device over SSH.

Doors: `inventory` says which devices there are, `jobs` does work on one, `tasks` are what is asked of it, `check` tells
whether it is ready, `device_part` is what runs there.
"""
