"""What a fetcher remembers between its calls, in one small file: which files it has seen, so that it need not hash them again.

It only saves work. A file that is gone or damaged counts as no memory, and everything is looked at anew.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from medallion_defs.bronze.disk import disk_errors, explain_os_error

R = TypeVar("R", bound=msgspec.Struct)


def read_memory(path: Path, remembered: type[R]) -> dict[str, R]:
    """Return what was remembered of each name; nothing when there is no memory, or a damaged one.

    Raises:
        MedallionError: the file is there and the disk does not give it.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, remembered])  # type: ignore[valid-type]  # a type at run time
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
    except OSError as error:
        raise explain_os_error(error, str(path)) from error


def write_memory(path: Path, content: Mapping[str, msgspec.Struct]) -> None:
    """Put `content` in the place of what was remembered, whole or not at all.

    Raises:
        MedallionError: the disk does not take it.
    """
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(content))
        new.replace(path)
