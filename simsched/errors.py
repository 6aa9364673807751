"""The one exception that means "your input is wrong"."""


class InputError(Exception):
    """Bad input: one line that names the file, line or option, the value, and what was expected.

    The command line prints the message without a traceback and exits with code 2.
    """
