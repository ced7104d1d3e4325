"""Every error that Medallion raises on purpose.

One root, so that a caller can tell what the project understands from what it does not. Transient or terminal
is a type, because that is what decides a retry. A message says what happened, to what, and what to do.
"""

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple({*(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), "<"})


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


class UnexpectedError(TransientError):
    """What no code of Medallion raises on purpose: a bug, or what a library makes of odd input. Keeps the exception's own text.

    Transient, for it may have been the machine's (no memory, a disk): attempts are counted, so one that always comes ends all the same.

    Attributes:
        type_name: of the exception.
    """

    type_name: str = ""

    @classmethod
    def of(cls, cause: BaseException) -> "UnexpectedError":
        """Return the error that tells of `cause`: its text, and where in the code of Medallion or of a source it came from."""
        frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(cause.__traceback__)]
        place = find_place(frames)
        text = str(cause).strip() or type(cause).__name__
        error = cls(f"{text} ({place})" if place else text)
        error.type_name = type(cause).__name__
        return error


def describe_unexpected(error: BaseException) -> str:
    """Return type, text and place of what was not expected, for a person."""
    return f"{type(error).__name__}: {UnexpectedError.of(error)}"


def find_place(frames: Sequence[tuple[str, int, str]]) -> str:
    """Return the last of the frames (file, line, function) that is not a library's: `articles/transform.py, line 60, in parse`."""
    own = [frame for frame in frames if frame[0].startswith(_PACKAGE) or not frame[0].startswith(_LIBRARIES)]
    if not (own or frames):
        return ""
    filename, line, name = (own or frames)[-1]
    return f"{'/'.join(Path(filename).parts[-2:])}, line {line}, in {name}"
