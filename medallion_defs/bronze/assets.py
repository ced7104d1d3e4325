"""From a source's `fetch.py` to Dagster: one asset that takes what is complete, one sensor that looks whether there is any.

The only place of bronze that knows Dagster. The sensor reads names and stats; copying is the run's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg

from medallion_defs.bronze.contract import Fetch, TreeFetch
from medallion_defs.bronze.fetch_time import read_fetch_time
from medallion_defs.bronze.landing import LeftFile, landing_fingerprint
from medallion_defs.bronze.landing_fetch import FetchReport, fetch_landing, is_refused_already, remember_refused
from medallion_defs.bronze.lateness import look_at_landing
from medallion_defs.bronze.local import LocalStore
from medallion_defs.bronze.tree_assets import build_tree
from medallion_defs.core import clock, db, markdown
from medallion_defs.core.content import Source
from medallion_defs.core.errors import TerminalError
from medallion_defs.core.markdown import Markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.ops.dagster_asset import data_version, plain_failures
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, request_run
from medallion_defs.ops.watch import build_checks

_SHOWN = 200


@dataclass(frozen=True)
class BronzeContent:
    """What the bronze process knows of one source: its facts, how its items come in, and the names of the recipes that read them."""

    source: Source
    fetch: Fetch
    recipes: tuple[str, ...] = ()


def build_bronze(content: BronzeContent) -> dg.Definitions:
    """Return the asset, job and sensor of one source. Touches neither disk nor database."""
    if isinstance(content.fetch, TreeFetch):
        return build_tree(content.source, content.fetch)
    asset = _build_asset(content)
    name = content.source.name
    on_time = build_checks("bronze", name, "medallion_bronze", look_at_landing([name]))
    job = dg.define_asset_job(
        f"bronze_{name}",
        selection=[asset],
        tags={LAYER_TAG: "bronze"},
        description=f"Takes every complete file in data/landing/{name} into data/bronze/{name}.",
    )
    return dg.Definitions(assets=[asset], asset_checks=[on_time], jobs=[job], sensors=[_build_sensor(content.source)])


def fetch_source(settings: Settings, source: Source, run_id: str | None) -> FetchReport:
    """Take what is complete in the source's landing folder into bronze, then write it into the ledger.

    A crash between the two loses nothing: silver's discovery finds items that the ledger does not know.

    Raises:
        TransientError, ConfigurationError: bronze, landing or the database cannot be written.
    """
    with db.connect(settings, "medallion_bronze") as connection:
        time = read_fetch_time(connection, source.name)
    (settings.landing_path / source.name).mkdir(parents=True, exist_ok=True)
    report = fetch_landing(
        LocalStore(settings.bronze_path), source, settings.source(source.name).landing, settings.landing_path,
        time=time, run_id=run_id,
    )  # fmt: skip
    with db.connect(settings, "medallion_bronze") as connection:
        ledger, now = Ledger(connection), clock.now()
        ledger.register_published(DatasetIngestion.published(item, now, time.now) for item in report.published)
        ledger.register_refused(_refusal(source, file, now, run_id) for file in report.refused)
    remember_refused(settings.landing_path, source.name, report.left)
    return report


def _refusal(source: Source, file: LeftFile, at: datetime, run_id: str | None) -> DatasetIngestion:
    filename = file.name.rpartition("/")[2]
    return DatasetIngestion.refused(source.name, file.name, filename, TerminalError(file.reason), at, run_id)


def _build_asset(content: BronzeContent) -> dg.AssetsDefinition:
    source = content.source
    key = dg.AssetKey(["bronze", source.name])

    @dg.asset(
        key=key,
        group_name=source.domain,
        kinds={"file", "bronze"},
        tags={LAYER_TAG: "bronze"},
        owners=list(source.owners),
        description=f"{source.title}, as they came: one immutable directory per file dropped in `data/landing/{source.name}/`."
        f"\n\n{source.description}\n\nMaterialize takes every complete file now.",
        metadata={
            "landing_folder": f"data/landing/{source.name}",
            "bronze_folder": f"data/bronze/{source.name}",
            "recipes": ", ".join(content.recipes) or "none: each file is read whole",
        },
        required_resource_keys={"settings"},
        output_required=False,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL),
        pool=f"bronze_{source.name}",
    )
    def bronze_asset(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        with plain_failures():
            report = fetch_source(settings, source, context.run.run_id)
        for file in report.refused:
            context.log.error(f"landing/{source.name}/{file.name} was refused: {file.reason}")
        # Files that are left where they are, and those that were refused, are looked at by each run.
        is_emptied = settings.source(source.name).landing.after == "move"
        if not report.published and not (is_emptied and (report.unchanged or report.removed)):
            context.log.info(f"Nothing was taken from landing/{source.name}: {_count_left(report)}.")
            return
        version = data_version(context.instance, context.run.run_id, key, is_changed=bool(report.published))
        yield dg.MaterializeResult(metadata=describe(report), data_version=version)

    return bronze_asset


def _build_sensor(source: Source) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"landing_{source.name}",
        job_name=f"bronze_{source.name}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description=f"Looks for complete files in `data/landing/{source.name}/` and requests one run for all of them.",
    )
    def landing_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        settings: Settings = context.resources.settings
        options = settings.source(source.name)
        now = clock.now()
        fingerprint = landing_fingerprint(settings.landing_path, source.name, options.landing, now)
        if fingerprint is None:
            return dg.SkipReason(f"nothing complete in landing/{source.name}")
        if is_refused_already(settings.landing_path, source.name, fingerprint):
            return dg.SkipReason(f"landing/{source.name} holds only what was refused; 'medallion status' says why")
        request = request_run(context.instance, f"bronze/{source.name}/{fingerprint[:32]}", options.retry_seconds, now)
        return dg.SkipReason(f"landing/{source.name}: {request}") if isinstance(request, str) else request

    return landing_sensor


def describe(report: FetchReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of one fetch."""
    return as_metadata(
        {
            "items_published": len(report.published),
            "items_unchanged": len(report.unchanged),
            "files_removed_before": len(report.removed),
            "files_refused": len(report.refused),
            "files_waiting": len(report.waiting),
            "bytes": report.bytes,
            **stage_timing(report.seconds, items=len(report.published), bytes=report.bytes),
        },
        published=markdown.table(
            ["file", "item", "bytes", "sha256"],
            [(item.filename, item.path, item.bytes, item.content_sha256[:16]) for item in report.published[:_SHOWN]],
        ),
        unchanged=markdown.table(["file", "same bytes as"], [(item.filename, item.path) for item in report.unchanged[:_SHOWN]]),
        removed_before=_reasons(report.removed),
        refused=_reasons(report.refused),
        waiting=_reasons(report.waiting),
    )


def _count_left(report: FetchReport) -> str:
    counts = {"unchanged": report.unchanged, "refused": report.refused, "still being written": report.waiting}
    return ", ".join(f"{len(files)} {what}" for what, files in counts.items() if files) or "it holds no complete file"


def _reasons(files: Sequence[LeftFile]) -> Markdown:
    return markdown.table(["file", "why"], [(file.name, file.reason) for file in files[:_SHOWN]])
