"""The exceptions that mean "your input is wrong"."""


class InputError(Exception):
    """Bad input: one line that names the file, line or option, the value, and what was expected.

    The command line prints the message without a traceback and exits with code 2.
    """


class RunError(InputError):
    """A run that can't go on, though everything was fine before it began: what the policy does with this load
    on this engine never ends. In a study its cell has failed, and the others go on."""


class CannotLeap(Exception):  # noqa: N818  # not an error: the simulator starts again, stepping
    """Only the reference engine is exact here."""
