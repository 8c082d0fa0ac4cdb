"""Whether the students of a comparison answer for the teacher's reasons: agreement beside accuracy."""
