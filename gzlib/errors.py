"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input or a missing resource: one sentence saying what is wrong, where, and what to do.

    The command line prints the sentence and exits with status 2; a notebook shows it as it is.
    """
