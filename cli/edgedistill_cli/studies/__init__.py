"""What is asked before training.

Doors: `planning`, `comparing` and `inspecting`, for the commands of these names; `comparison_table` shows what methods
came to.
"""
