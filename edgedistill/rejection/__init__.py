"""The output `in_domain`: is this an image of one of the classes at all?

Doors: `rejector` scores and sets the threshold, `outside` finds images of the teacher's other classes.
"""
