"""Images with both models' answers, and the figures on them.

Doors: `images` joins images with the teacher's answers, `figures` counts and averages, `curves` shows confusions
and what probabilities are worth.
"""
