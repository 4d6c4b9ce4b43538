"""The gradebook: its database, the class file, and grades from verdicts, overrides and deadlines."""
