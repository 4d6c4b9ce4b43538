"""The sandbox, as the grader sees it: its walls, its limits, what it shows, and a worker to ask."""
