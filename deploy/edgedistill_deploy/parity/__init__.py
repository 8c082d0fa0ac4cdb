"""Is the student as good as the teacher?

Doors: `check` compares the two and gives the verdict. `consistency` compares a model with its bundle, and `recorded`
with what it gave when it was made. `metamorphic` checks relations that hold for any weights. `chain` finds the step
that lost the accuracy, `flips` the images that are decided differently, `preprocess_drift` the cost of another resize.
`answers` counts what is confused and keeps a few pictures, made by `thumbnails`. `validation` does all of this for a
bundle.
"""
