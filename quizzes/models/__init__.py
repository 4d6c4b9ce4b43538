"""Models that are handed in: what they are for, the data that judges them, the check in a notebook."""
