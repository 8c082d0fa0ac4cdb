"""The verified folder that travels to the device.

Doors: `folder` creates and opens it, `manifest` is the file that lists and vouches for the others, `reference` is the teacher's
recorded answers.
"""
