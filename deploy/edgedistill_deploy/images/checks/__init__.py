"""Which images can be used at all: `looking` decodes each one, `limits` says how many may be lost and in what words.

Training and judging leave out the same files, for the same reasons.
"""
