"""Distillation: losses, students, and what a student learns from."""
