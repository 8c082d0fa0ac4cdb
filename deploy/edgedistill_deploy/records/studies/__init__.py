"""The records of studies outside a bundle: what `compare` and `plan` found, read with the suspicion of all records.

Doors: `comparison` and `plan` define the parts that a page shows, `reading` reads the folders that a user names.
"""
