"""The same measuring on a device over SSH.

Doors: `inventory` lists the devices, `jobs` runs a job on them, `tasks` builds the jobs, `check` says whether a device
is ready, `device_part` runs on the device.
"""
