"""How items of `driver_events` come in."""

from medallion_defs.bronze.contract import LandingFetch

FETCH = LandingFetch()
