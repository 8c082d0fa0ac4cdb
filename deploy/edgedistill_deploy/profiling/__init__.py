"""What is asked of a profile, each part in a fresh process.

Doors: `request` says what is wanted, `run` measures it here, `cold_start` times new processes.
"""
