"""How items of `companies` come in."""

from medallion_defs.bronze.kinds import LandingFetch

FETCH = LandingFetch()
