"""One module a lesson, qNN_name.py: its exercises and its questions. Nothing here knows the grading."""
