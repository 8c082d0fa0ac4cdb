"""One measurement of time, compared and held to a budget.

Doors: `measurement` times a session, `comparison` compares two records, `interleaved` two models in alternating blocks,
`budget` holds a percentile against a limit, `sustained` lets images arrive, `end_to_end` starts from a JPEG,
`layer_times` asks for single nodes.
"""
