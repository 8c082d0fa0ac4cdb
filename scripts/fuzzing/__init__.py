"""The parts of `scripts/fuzz.py`: the kinds of input, the watch over files, and the processes that the cases run in."""
