"""Images, most of them labelled, from folders, arrays and known data sets, read one at a time and prepared for a model.

Doors: `sets` says what a set of images is. `sources` opens one by name. `decode` reads an image as a person sees it.
`preprocess` is the one contract for what a model takes. `golden` holds prepared images to compare with, and
draws images at the limits of what a model takes. `colour` turns every kind of pixel into RGB. `skipped` says
which files are not used, and why. `arrays`, `folder`,
`idx`, `fashion_mnist` and `cifar100` are the kinds of sets; more are in the room `encoded`.
"""
