"""Judging: a submission asked about every exercise, and who asks, here, in processes or on a cluster."""
