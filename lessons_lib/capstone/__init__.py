"""The capstone: compression as a list of steps under a budget."""
