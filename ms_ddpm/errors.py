"""Errors that are the user's to mend. Scripts print them as one line and exit with code 2."""


class UserError(ValueError):
    """Bad input: the message names the value, what was expected and what to do."""


class NonFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""
