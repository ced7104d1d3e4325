"""How items of `articles` come in."""

from medallion_defs.bronze.contract import LandingFetch

FETCH = LandingFetch()
