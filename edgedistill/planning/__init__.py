"""Students that are not trained yet.

Doors: `candidates` builds students that can be timed, `between` finds sizes between a student and its teacher,
`measuring` times students, `widths` compares their widths with those that the teacher needs, `verdicts` says which are
worth distilling.
"""
