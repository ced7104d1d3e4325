"""Whose the data folder is: its owner's. Set at each start, so that folders of an earlier Medallion are closed as well.

Items in bronze keep the modes that they were published with; the folder above them is what is closed. Landing is open as
`folders.landing_mode` says, and Postgres, where it runs as another account, may pass through.
"""

import stat
from collections.abc import Mapping
from pathlib import Path

from medallion_defs.core.settings import Settings
from medallion_defs.stack.postgres import EmbeddedPostgres

_OWN = 0o700
_PASS = 0o711


def close_folders(settings: Settings, server: EmbeddedPostgres | None) -> str:
    """Give every folder below `data_dir` its mode, making those that are missing; return a sentence, empty when none was too open.

    Args:
        server: the embedded server, which has its folder already; None with a server elsewhere.
    """
    wanted = folder_modes(settings, is_passed=server is not None and server.runs_as_other)
    opened = [path for path in wanted if path.exists() and _mode(path) & ~wanted[path] & 0o066]
    refused = [path for path, mode in wanted.items() if not _set_mode(path, mode)]
    if refused:
        return f"These folders belong to another account, and others may be able to read them: {_names(refused)}."
    return f"Closed to other accounts, which could read them: {_names(opened)}." if opened else ""


def folder_modes(settings: Settings, *, is_passed: bool) -> Mapping[Path, int]:
    """Return the mode of each folder, `data_dir` first.

    Args:
        is_passed: whether another account, that of Postgres, has to pass through.
    """
    from medallion_defs.bronze.assets import landing_names  # loads Dagster: half a second

    data, landing = settings.data_path, int(settings.folders.landing_mode, 8)
    passed = (0o010 if landing & 0o070 else 0) | (0o001 if landing & 0o007 else 0) | (0o011 if is_passed else 0)
    own = {data / name: _OWN for name in ("bronze", "derived", "dagster", "dagster/logs", "dagster/storage")}
    sources = {settings.landing_path / name: landing for name in landing_names()}
    return {
        data: _OWN | passed,
        **own,
        data / "postgres": _PASS if is_passed else _OWN,
        settings.landing_path: landing,
        settings.landing_path / ".taken": _OWN,
        **sources,
    }


def _set_mode(path: Path, mode: int) -> bool:
    try:
        path.mkdir(mode=mode & 0o777, exist_ok=True)
        if _mode(path) != mode:
            path.chmod(mode)
    except PermissionError:
        return False
    return True


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _names(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)
