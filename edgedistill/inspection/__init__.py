"""What the relevant subspaces of a teacher's layers look like, and how wide a student they ask for."""
