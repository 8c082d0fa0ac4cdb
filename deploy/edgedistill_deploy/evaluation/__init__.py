"""Judged images with both models' answers, and the figures on them.

Doors: `images` judges the images one by one, `figures` counts.
"""
