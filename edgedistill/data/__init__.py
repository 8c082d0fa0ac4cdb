"""Images for training: splits that cannot leak, augmentation, and the loader.

Doors: `sources` opens images by name, `splits` splits them, `loader` loads batches, `augment` varies them, `sampling`
draws a few.
"""
