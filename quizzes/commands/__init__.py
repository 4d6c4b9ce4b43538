"""The command `course`, a module for each kind of person who types it."""
