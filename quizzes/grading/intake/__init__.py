"""Intake: from folders and zips to each student's notebook and models, read without running anything."""
