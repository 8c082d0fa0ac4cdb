"""One command a file. Each imports what it needs when it runs, and is imported when it is asked for."""
