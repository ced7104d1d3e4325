"""How items of `companies` come in."""

from medallion_defs.bronze.contract import LandingFetch

FETCH = LandingFetch()
