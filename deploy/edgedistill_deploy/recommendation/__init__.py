"""Which model to deploy.

Doors: `choice` chooses for each device that was measured and says why, `summary` is the table of what is known of each
model.
"""
