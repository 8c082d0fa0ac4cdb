"""The classes of a teacher that the expert keeps.

Doors: `subtask` finds classes among a teacher's, `named` has the subtasks that have a name, `imagenet` the labels of
the larger ImageNets.
"""
