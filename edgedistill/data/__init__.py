"""Images for training: splits without shared images, augmentation, and the loader.

Doors: `sources` opens images by name, `splits` splits them, `loader` loads batches, `augment` varies them, `sampling`
draws a few.
"""
