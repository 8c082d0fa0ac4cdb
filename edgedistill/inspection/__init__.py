"""The relevant subspaces of a teacher's layers, and the widths of the student that they suggest.

Doors: `inspecting` measures, `choosing` chooses the subspace of each layer, `records` keeps what was found, `config`
has the settings, `picture` draws; `accuracy`, `projecting` and `suggesting` are its parts. `teacher_labels` asks
whether the teacher's labels fit its answers.
"""
