"""`python -m quizzes` is the command `course`."""

from quizzes.cli import main

if __name__ == "__main__":
    main()
