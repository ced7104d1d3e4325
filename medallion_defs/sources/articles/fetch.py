"""How items of `articles` come in."""

from medallion_defs.bronze.kinds import LandingFetch

FETCH = LandingFetch()
