"""Showing: figures with alternative text, tables, sliders, and the claims beside what was measured."""
