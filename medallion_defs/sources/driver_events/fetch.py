"""How items of `driver_events` come in."""

from medallion_defs.bronze.kinds import LandingFetch

FETCH = LandingFetch()
