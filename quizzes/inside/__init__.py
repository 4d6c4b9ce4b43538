"""What may run inside the sandbox, and nothing else: these files need no other part of the course."""
