"""How good a quantised file is, and the record of it.

Doors: `judge` compares files on held-out images, `ledger` is the record, `steps` makes the steps of the ledger.
`effort` bounds the images that each part runs. `expectations` records what each file gives for the golden inputs.
"""
