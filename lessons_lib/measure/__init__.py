"""Measuring: time, bytes, memory, energy, and quality with its interval."""
