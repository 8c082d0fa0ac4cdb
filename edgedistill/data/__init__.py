"""Images for training: splits without shared images, augmentation, and the loader.

Doors: `sources` opens images by name, `splits` splits them, `checking` looks at every image first, `likeness` finds
copies of a picture, `loader` loads batches, `feeding` gives them pass after pass,
`keeping` keeps decoded images in memory, `workers` chooses who decodes, `augment` varies them, `sampling` draws a few.
"""
