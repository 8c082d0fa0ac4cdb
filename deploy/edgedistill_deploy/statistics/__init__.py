"""The figures that verdicts depend on.

Doors: `paired` compares two models on the same images. `chance` compares one with guessing. `quantiles` gives
percentiles with intervals. `bimodal` tells one mode from two. `assignment` matches rows with columns. `verdicts` lists
what a gate can say.
"""
