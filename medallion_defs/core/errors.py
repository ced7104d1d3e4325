"""Every error that Medallion raises on purpose.

One root, so that a caller can tell what the project understands from what it does not. Transient or terminal
is a type, because that is what decides a retry. A message says what happened, to what, and what to do.
"""

from pydantic import ValidationError


class MedallionError(Exception):
    """Something went wrong that Medallion can explain. `str(error)` is a sentence for a person."""


class TransientError(MedallionError):
    """The same call may succeed later: a lost connection, a busy port, a full disk that gets freed."""


class TerminalError(MedallionError):
    """The same input gives the same failure until somebody changes the input, the code or the configuration."""


class ConfigurationError(TerminalError):
    """A setting, a recipe or the machine is not as Medallion needs it. The message names the setting and the remedy."""


def describe_invalid(error: ValidationError, whole: str = "") -> str:
    """Return what does not validate as one line: `place: reason; place: reason`. `whole` names the object itself."""
    parts = [(".".join(map(str, each["loc"])) or whole, each["msg"]) for each in error.errors(include_url=False)]
    return "; ".join(": ".join(filter(None, (place, reason.removeprefix("Value error, ")))) for place, reason in parts)
