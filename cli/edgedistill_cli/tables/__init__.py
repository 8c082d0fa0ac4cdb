"""Records as tables on the terminal.

Doors: `parity`, `latency`, `layers` and `ledger`, each for its records.
"""
