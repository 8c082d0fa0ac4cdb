"""Students that are not trained yet.

Doors: `candidates` builds some that can be timed, `measuring` times them, `widths` puts their widths beside those that
the teacher needs, `verdicts` says which are worth distilling.
"""
