"""The fields with which a person names a part of history in the launchpad, as silver, gold, variants and tasks have them in common."""

import dagster as dg
from pydantic import Field

from medallion_defs.ops.scope import FILE_IDS_HELP


class ScopeConfig(dg.Config):
    """The values of the scopes `since` and `file_ids`. Which scopes there are is the field `scope` of each configuration."""

    since: str | None = Field(None, description="With scope since: what was fetched from this time on (ISO 8601 with a zone).")
    file_ids: list[str] = Field(default_factory=list, description=FILE_IDS_HELP)


class DatasetScopeConfig(ScopeConfig):
    """Those, and the value of the scope `dataset`."""

    dataset: str | None = Field(None, description="With scope dataset: a dataset of a recipe, * and ? allowed.")
