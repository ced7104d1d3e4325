"""The store that bronze publishes to. What runs with bronze's rights (the model's transport, the command line) comes through here."""

from medallion_defs.storage.publishers import open_store
from medallion_defs.storage.publishing import BronzeStore, NewArtifact, NewItem

__all__ = ["BronzeStore", "NewArtifact", "NewItem", "open_store"]
