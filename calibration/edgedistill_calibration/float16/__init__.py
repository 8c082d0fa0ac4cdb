"""The FP16 files.

Doors: `files` makes those of a bundle, `conversion` brings a graph to float16 where float16 holds its values.
"""
