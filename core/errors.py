"""The one error that users are meant to read.

Whatever a user can cause (a missing column, a torn image, an edited run) is raised as `TurnoverError` with one line
that says what is wrong, where, and what to do. The command line prints that line and exits with 2; the dashboard shows
it in a box. Any other exception is a bug of ours and keeps its traceback.
"""


class TurnoverError(ValueError):
    """A problem the user can mend; its text names the place (file, row, field) and the remedy."""
