"""What the lessons import, in rooms: one idea a module. Importing this package loads neither torch nor transformers."""

from lessons_lib import quiet

quiet.install()
