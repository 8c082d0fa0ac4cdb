"""Work on a run folder.

Doors: `folder` knows which stages are due, `inputs` loads what they share, `stages` holds the six stages, `building`
runs those that are due, `one_stage` runs one, `further/` adds further files, `libraries` finds missing libraries,
`recovering` trains under quantisation, `explaining` asks for the reasons, `preflight` checks what can be checked
without torch.
"""
