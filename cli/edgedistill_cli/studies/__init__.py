"""Studies of teachers, students and methods.

Doors: `planning`, `comparing` and `inspecting`, for the commands of these names; `comparison_table` shows a comparison.
"""
