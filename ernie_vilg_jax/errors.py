"""The one error type that means "the person who ran this can mend it".

Commands print its message as a single sentence and exit with status 1 (see `cli.py`); anything else that
escapes a command is a bug and keeps its traceback.
"""


class UserError(Exception):
    """A mistake in flags, config, data or checkpoint. The message says what is wrong, where, and how to mend it."""
