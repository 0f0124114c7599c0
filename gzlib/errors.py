"""The exceptions that a user is meant to read: one sentence that says what is wrong, where, and what to do."""


class UserError(ValueError):
    """Bad input or a missing resource.

    The command line prints the sentence and exits with status 2; a notebook shows it as it is.
    """


class NotWritten(UserError):
    """A file could not be written: no space, no right, or a read-only place; whatever was there before is untouched."""


class Busy(UserError):
    """Another process holds a lock; the message says which."""
