"""How items of `media` come in."""

from medallion_defs.bronze.contract import LandingFetch

FETCH = LandingFetch()
