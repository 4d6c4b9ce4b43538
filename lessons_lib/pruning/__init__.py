"""Pruning: masks that last, heads and neurons cut out, and what zeros save."""
