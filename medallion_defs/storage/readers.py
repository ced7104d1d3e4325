"""Which storage the settings name, for those who read."""

from medallion_defs.core.settings import Settings
from medallion_defs.storage.local.reader import LocalReader
from medallion_defs.storage.reading import ItemReader


def open_reader(settings: Settings) -> ItemReader:
    """Return the reader of published items."""
    return LocalReader(settings.bronze_path)
