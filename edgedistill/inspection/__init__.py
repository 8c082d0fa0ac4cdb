"""What the relevant subspaces of a teacher's layers look like, and how wide a student they ask for.

Doors: `inspecting` measures, `choosing` chooses the subspace of each layer, `records` keeps what was found, `config`
has the settings, `picture` draws; `accuracy`, `projecting` and `suggesting` are its parts.
"""
