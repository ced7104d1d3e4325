"""The code location `bronze`: the only process that fetches and that writes bronze. Imports `source` and `fetch` of each source."""

import dagster as dg

from medallion_defs.bronze.assets import build_bronze, load_bronze_contents, look_at
from medallion_defs.bronze.maintenance.retention_job import build_bronze_retention
from medallion_defs.bronze.maintenance.verify_job import build_verify
from medallion_defs.bronze.posting.alerts import build_alerts
from medallion_defs.bronze.posting.openlineage import build_openlineage
from medallion_defs.genai.exchange import build_exchange
from medallion_defs.ops.base import base_definitions
from medallion_defs.ops.watch import build_watch

_CONTENTS = load_bronze_contents()

defs = dg.Definitions.merge(
    base_definitions(),
    build_bronze_retention(),
    build_verify([content.source.name for content in _CONTENTS]),
    *(build_bronze(content) for content in _CONTENTS),
    build_exchange(),
    build_watch("bronze", "medallion_bronze", look_at(_CONTENTS)),
    build_alerts(),
    build_openlineage(),
)
