"""Students that are not trained yet.

Doors: `candidates` builds students that can be timed, `measuring` times them, `widths` compares their widths with those
that the teacher needs, `verdicts` says which are worth distilling.
"""
