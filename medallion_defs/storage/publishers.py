"""Which storage the settings name, for those who publish. Bronze alone may import it."""

from medallion_defs.core.settings import Settings
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import BronzeStore


def open_store(settings: Settings) -> BronzeStore:
    """Return the store that items are published to."""
    return LocalStore(settings.bronze_path)
