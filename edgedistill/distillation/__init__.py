"""The training.

Doors: `subdistill` distils a student, `lesson` is what it learns, `events` is what a run reports, `training` is the
loop, `objective` is the student with its losses, `teacher_guidance` and `teacher_cache` ask the teacher, `tuning`
chooses the weight of the layer loss, `record` is the manifest's record.
"""
