"""The training.

Doors: `subdistill` distils a student, `lesson` is what it learns, `events` what a run tells; `training` is the loop,
`objective` the student and its losses as one module, `teacher_guidance` and `teacher_cache` ask the teacher, `tuning`
chooses the weight of the layer loss, `record` is what a bundle says of it all.
"""
