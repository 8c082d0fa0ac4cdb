"""The two INT8 files.

Doors: `request` is the input, `files` makes the files, `exclusions` decides which nodes are left in float.
`float_nodes` puts nodes back to float, and `device_nodes` decides which nodes pay on one device.
"""
