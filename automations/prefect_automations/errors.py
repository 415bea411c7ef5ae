"""Every error of this package; each message says what was expected, what came, and what to do.

AutomationsError
├── ProjectError      prefect.yaml cannot be read
├── EventError        a file holds no event
├── FileExistsAlreadyError  a file would be overwritten
├── NotConfirmedError  a deletion that nobody confirmed
└── ServerError       the server cannot be asked
    └── ConnectionLostError   it could be asked before, and no longer can
"""


class AutomationsError(Exception):
    """The root: the command prints the message and ends with exit code 1."""


class ProjectError(AutomationsError):
    """prefect.yaml cannot be read."""


class EventError(AutomationsError):
    """A file holds no event."""


class FileExistsAlreadyError(AutomationsError):
    """A file would be overwritten."""


class NotConfirmedError(AutomationsError):
    """A deletion that nobody confirmed."""


class ServerError(AutomationsError):
    """The server cannot be asked."""


class ConnectionLostError(ServerError):
    """The server could be asked before, and no longer can."""
