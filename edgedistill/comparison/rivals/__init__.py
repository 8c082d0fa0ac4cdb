"""The expert of one run beside its rivals: the student as it starts, and trained on labels or logits alone.

Doors: `training` trains a rival; `record` says how far the expert is from each.
"""
