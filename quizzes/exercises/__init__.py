"""Exercises, questions and models to hand in: how they are declared, and how answers to them are judged."""
