"""Is the student as good as the teacher?

Doors: `check` compares the two and gives the verdict, `consistency` holds a model against its bundle, `metamorphic`
checks what must hold whatever the weights, `chain` says which step lost the accuracy, `flips` which images are decided
otherwise, `preprocess_drift` what another resize would cost, `validation` does all of it for the models of a bundle.
"""
