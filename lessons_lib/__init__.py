"""What the lessons import: one idea a module. Importing this package loads neither torch nor transformers."""

from lessons_lib import startup

startup.install()
