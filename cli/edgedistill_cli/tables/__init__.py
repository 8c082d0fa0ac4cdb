"""Records as tables on the terminal.

Doors: `parity`, `latency`, `layers`, `ledger` and `devices`, each for its records.
"""
