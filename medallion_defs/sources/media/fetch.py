"""How items of `media` come in."""

from medallion_defs.bronze.kinds import LandingFetch

FETCH = LandingFetch()
