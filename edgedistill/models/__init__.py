"""Teacher and student.

Doors: `teacher` loads one by name, `teacher_files` reads its labels without its weights, `student` builds, writes and
reads one, `plain` is the plain network of the paper, `small_images` the ResNet that timm lacks, `normalise` puts the
teacher's preprocessing into the model, `names` reads which library a teacher is of, `student_names` the widths of a
plain student, `timm_list` lists timm's models without timm, `pixels` names the pixel values that networks are trained
on.
"""
