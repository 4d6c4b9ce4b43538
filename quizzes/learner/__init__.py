"""Where a learner stands: the lessons' working copies, what is earned, what comes next, solved copies."""
