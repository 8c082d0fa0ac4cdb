"""The report's charts, drawn by matplotlib as inline SVG.

Doors: `lines`, `bars` and `plane` draw one kind of chart each. `frame` has what all of them are made of. `svg` turns
matplotlib's drawing into text that a strict page can hold.
"""
