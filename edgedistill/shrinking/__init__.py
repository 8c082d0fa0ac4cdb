"""The teacher itself as the student, with fewer channels in every layer.

Doors: `shrinking` makes such a student, `shape` describes one so that it can be built again from JSON alone, `choosing`
says which channels stay.
"""
