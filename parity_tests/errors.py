"""What can go wrong with the harness itself, each with its exit code. Never green."""

from ms_ddpm.errors import one_line

AGREE, DIFFER, BROKEN, NOTHING_RAN = 0, 1, 2, 3


class HarnessError(Exception):
    """The harness or a bundle is broken, or was asked for what does not exist."""

    exit_code = BROKEN

    def __init__(self, message: object):
        super().__init__(one_line(message))


class UnknownCase(HarnessError):
    """No case has that name."""


class BundleError(HarnessError):
    """A bundle that is stale, cut short or not a bundle."""


class NothingRan(HarnessError):
    """An empty selection, or a framework that is not there."""

    exit_code = NOTHING_RAN
