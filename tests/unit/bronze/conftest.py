"""Fetchers are tested against a store on a folder of its own."""

from tests.unit.storage.conftest import bronze, clock_of_the_store, landing, publish, store

__all__ = ["bronze", "clock_of_the_store", "landing", "publish", "store"]
