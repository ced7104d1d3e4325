"""Private folders for unix sockets: short, because a socket's path holds 107 bytes at most (macOS: 103)."""

import hashlib
import os
import shutil
import stat
from pathlib import Path

from medallion_defs.core.errors import ConfigurationError

# Not the TMPDIR of whoever asks: two processes with different ones must find the same server.
_BASE = Path("/tmp")


def socket_folder(purpose: str, folder: Path) -> Path:
    """Return the folder for the sockets of the servers whose files are in `folder`; it need not exist."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return _BASE / f"medallion-{purpose}-{name}"


def make_private(folder: Path) -> None:
    """Make `folder` anew, empty, for this account only.

    Raises:
        ConfigurationError: somebody else has a folder of this name.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise ConfigurationError(f"{folder} belongs to another account; remove it and start again.") from error
    status = folder.lstat()
    if stat.S_IMODE(status.st_mode) != 0o700 or status.st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} is not private; remove it and start again.")
