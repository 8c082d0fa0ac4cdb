"""Further files beside those that a run or a bundle has.

Doors: `any_size` makes files for images of any size, `for_device` an INT8 file for one device.
"""
