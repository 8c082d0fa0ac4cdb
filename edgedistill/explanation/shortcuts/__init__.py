"""Places in the images, such as a corner with a mark, that speak for one class alone.

Doors: `looking` finds them in the maps of two networks; `criterion` decides which places stand out.
"""
