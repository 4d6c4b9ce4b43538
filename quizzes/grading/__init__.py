"""Submission to sandbox to verdict to gradebook: the judgement that a learner's code cannot reach."""
