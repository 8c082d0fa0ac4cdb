"""Labelled images from folders, arrays and well-known data sets, read one at a time, and brought to what a model takes.

Doors: `sets` says what a set of images is, `sources` opens one by name, `decode` reads an image as a person would see
it, `preprocess` is the one contract for what a model takes, `golden` holds prepared images to compare with, `colour` is
about profiles and channels; `arrays`, `folder`, `idx`, `fashion_mnist` and `cifar100` are the kinds of sets.
"""
