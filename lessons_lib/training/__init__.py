"""Training: the one loop of the course, and the checkpoints from which it goes on."""
