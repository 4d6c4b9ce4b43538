"""Tasks: the models of the course, the texts they read, their teachers, and how an answer is judged."""
