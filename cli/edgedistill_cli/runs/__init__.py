"""Work on a run folder.

Doors: `folder` knows which stages are due, `inputs` loads what they share, `stages` are the six, `building` runs those
that are due, `one_stage` a single one, `libraries` what they need, `recovering` trains under quantisation.
"""
