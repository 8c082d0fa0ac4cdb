"""Which model to deploy.

Doors: `choice` chooses a model for each measured device, with a reason; `summary` is the table of all models.
`shipping` answers whether the expert may be shipped, `next_steps` says what to do next.
"""
