"""What the page says and shows, without its looks: values that the templates write and the charts draw.

Doors: `answers` has the values about single answers, with `pictures` and `confusion`. `points` is what charts are drawn
from. `places` groups records by device, and bounds what is shown of many. `data` is a sentence on the images. `reasons`
is what `explain` found, and `beside` what `compare` and `plan` did.
"""
