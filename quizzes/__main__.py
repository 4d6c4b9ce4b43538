"""`python -m quizzes` is the command `course`."""

from quizzes.commands.main import main

if __name__ == "__main__":
    main()
