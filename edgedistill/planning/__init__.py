"""Students that are not trained yet.

Doors: `candidates` builds some that can be timed, `verdicts` says which are worth distilling.
"""
