"""The data folder of an earlier release was open to other accounts: a start closes it, once, and says so."""

import stat
from pathlib import Path

from medallion_defs.core.settings import Settings
from medallion_defs.stack.folders import close_folders


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_open_folders_are_closed_with_one_sentence_and_published_items_keep_their_modes(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, data_dir=tmp_path / "data")
    item = settings.bronze_path / "driver_events" / "day.jsonl"
    landing = settings.landing_path / "driver_events"
    for folder in (item, landing):
        folder.mkdir(parents=True)
    for folder in (settings.data_path, settings.bronze_path, settings.landing_path, landing):
        folder.chmod(0o755)
    item.chmod(0o555)
    said = close_folders(settings, None)
    assert said.startswith("Closed to other accounts")
    assert all(str(folder) in said for folder in (settings.data_path, settings.bronze_path, landing))
    assert [mode(folder) for folder in (settings.data_path, settings.bronze_path, settings.landing_path, landing)] == [0o700] * 4
    assert mode(item) == 0o555
    assert close_folders(settings, None) == ""
