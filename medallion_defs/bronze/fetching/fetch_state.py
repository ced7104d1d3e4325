"""The state of a fetch between its calls, in one small file: which files it has seen, so that it need not hash them again.

It only saves work. Where the file is gone, damaged or of an older release, everything is read once more.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from medallion_defs.storage.local.disk import disk_errors, explain_os_error

R = TypeVar("R", bound=msgspec.Struct)


def read_fetch_state(path: Path, remembered: type[R]) -> dict[str, R]:
    """Return what is remembered of each name; nothing when the state is missing or cannot be read.

    Raises:
        MedallionError: the file is there and the disk does not give it.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, remembered])  # type: ignore[valid-type]  # a type at run time
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    except OSError as error:
        raise explain_os_error(error, str(path)) from error


def write_fetch_state(path: Path, content: Mapping[str, msgspec.Struct]) -> None:
    """Put `content` in the place of the present state, whole or not at all.

    Raises:
        MedallionError: the disk does not take it.
    """
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(content))
        new.replace(path)
