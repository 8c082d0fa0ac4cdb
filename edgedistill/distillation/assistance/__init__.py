"""An assistant: a student in between, which learns from the teacher first, and then teaches the student.

Doors: `assistant` trains one and makes a teacher of it; `choosing` says by short runs which one helps, if any does.
"""
