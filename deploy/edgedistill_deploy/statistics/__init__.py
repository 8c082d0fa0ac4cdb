"""The figures that verdicts rest on.

Doors: `paired` compares two models on the same images, `quantiles` gives percentiles with intervals, `bimodal` tells
one mode from two, `assignment` matches rows with columns, `verdicts` says what a gate may say.
"""
