"""The output `in_domain`: is this an image of one of the classes at all?

Doors: `rejector` chooses the score and the threshold, `outside` finds images of the teacher's other classes.
"""
