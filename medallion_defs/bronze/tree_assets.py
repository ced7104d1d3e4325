"""From a source whose pages lie in trees to Dagster: an asset that takes what is new, a sensor on the folders, a nightly scan.

The sensor stats folders; a file that is edited in place moves none of them, so every night all pages are looked at.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from medallion_defs.bronze.contract import TreeFetch
from medallion_defs.bronze.fetch_time import read_fetch_time
from medallion_defs.bronze.landing import LeftFile
from medallion_defs.bronze.local import LocalStore
from medallion_defs.bronze.tree import tree_fingerprint
from medallion_defs.bronze.tree_fetch import MEMORY_FOLDER, TreeMemory, TreeReport, fetch_tree
from medallion_defs.core import clock, db, markdown
from medallion_defs.core.content import Source
from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.ops.dagster_asset import data_version, plain_failures
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.item import BronzeItem
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, LIVE_STATUSES, request_run

_OFF = "the settings have no section 'curricular', so there is nowhere to look; see docs/curricular-pages.md"


class TreeConfig(dg.Config):
    """What a person may ask of one run."""

    rehash: bool = Field(False, description="Read every page again, also those whose size and times are as they were.")


def build_tree(source: Source, fetch: TreeFetch) -> dg.Definitions:
    """Return the asset, job, sensor and schedule of one source. Touches neither disk nor database."""
    asset = _build_asset(source, fetch)
    job = dg.define_asset_job(f"bronze_{source.name}", selection=[asset], tags={LAYER_TAG: "bronze"},
        description="Takes pages that are new or have changed; with rehash every page is read again.",
    )  # fmt: skip
    schedule = dg.ScheduleDefinition(
        name=f"scan_{source.name}",
        job=job,
        cron_schedule="30 2 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks at every page once a night: what was edited in place moves no folder.",
    )
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_build_sensor(source, fetch)], schedules=[schedule])


def fetch_tree_source(settings: Settings, source: Source, fetch: TreeFetch, run_id: str | None, *, rehash: bool = False) -> TreeReport:
    """Take what is new or has changed into bronze, and write each group into the ledger once it is durable.

    A crash between the two loses nothing: silver's discovery finds items that the ledger does not know.

    Raises:
        ConfigurationError: the settings do not name the trees.
        TransientError: bronze, a tree or the database cannot be read or written.
    """
    scope = fetch.read_scope(settings)
    if scope is None:
        raise ConfigurationError(f"bronze/{source.name}: {_OFF}.")
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        ledger, time = Ledger(connection), read_fetch_time(connection, source.name)

        def register(items: Sequence[BronzeItem], refused: Sequence[LeftFile]) -> None:
            now = clock.now()
            with connection.transaction():
                ledger.register_published(DatasetIngestion.published(item, now, time.now) for item in items)
                ledger.register_refused(
                    DatasetIngestion.refused(source.name, left.name, left.name, TerminalError(left.reason), now, run_id) for left in refused
                )

        return fetch_tree(
            LocalStore(settings.bronze_path), source, scope, _memory(settings, source), register,
            time=time, settle_seconds=settings.source(source.name).landing.settle_seconds, run_id=run_id, rehash=rehash,
        )  # fmt: skip


def _build_asset(source: Source, fetch: TreeFetch) -> dg.AssetsDefinition:
    key = dg.AssetKey(["bronze", source.name])

    @dg.asset(
        key=key,
        group_name=source.domain,
        kinds={"file", "bronze"},
        tags={LAYER_TAG: "bronze"},
        owners=list(source.owners),
        description=f"{source.title}, as they came: one immutable directory per page, with its label and its image."
        f"\n\n{source.description}\n\nMaterialize takes what is new or has changed; with `rehash` every page is read again.",
        metadata={"bronze_folder": f"data/bronze/{source.name}", "recipes": "none: each page is read whole"},
        required_resource_keys={"settings"},
        output_required=False,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL),
        pool=f"bronze_{source.name}",
    )
    def bronze_tree(context: dg.AssetExecutionContext, config: TreeConfig) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        with plain_failures():
            if fetch.read_scope(settings) is None:
                context.log.info(f"Nothing was taken: {_OFF}.")
                return
            report = fetch_tree_source(settings, source, fetch, context.run.run_id, rehash=config.rehash)
        if not report.published:
            context.log.info(f"Nothing is new: {report.unchanged:,} pages are as they were, {report.refused:,} were refused.")
            return
        version = data_version(context.instance, context.run.run_id, key, is_changed=bool(report.published))
        yield dg.MaterializeResult(metadata=describe(report), data_version=version)

    return bronze_tree


def _build_sensor(source: Source, fetch: TreeFetch) -> dg.SensorDefinition:
    job = f"bronze_{source.name}"

    @dg.sensor(
        name=f"tree_{source.name}",
        job_name=job,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Looks whether the folders in scope have changed and come to rest, and requests one run for all of them.",
    )
    def tree_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        settings: Settings = context.resources.settings
        scope = fetch.read_scope(settings)
        if scope is None:
            return dg.SkipReason(_OFF)
        live = context.instance.get_runs(filters=dg.RunsFilter(job_name=job, statuses=list(LIVE_STATUSES)), limit=1)
        if live:
            return dg.SkipReason(f"run {live[0].run_id} is at it")
        options, now = settings.source(source.name), clock.now()
        fingerprint = tree_fingerprint(scope, now, options.landing.settle_seconds)[:32]
        waiting = _waiting_since(_memory(settings, source))
        request = request_run(context.instance, f"bronze/{source.name}/{fingerprint}{waiting}", options.retry_seconds, now)
        return dg.SkipReason(f"{source.name}: {request}") if isinstance(request, str) else request

    return tree_sensor


def _memory(settings: Settings, source: Source) -> TreeMemory:
    return TreeMemory(settings.landing_path / MEMORY_FOLDER, source.name)


def _waiting_since(memory: TreeMemory) -> str:
    try:
        return f"/{memory.waiting_path.stat().st_mtime_ns}"
    except FileNotFoundError:
        return ""


def describe(report: TreeReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of one fetch."""
    return as_metadata(
        {
            "items_published": report.published,
            "items_unchanged": report.unchanged,
            "files_removed_before": report.removed,
            "files_refused": report.refused,
            "files_waiting": report.waiting,
            "pages_read": report.read,
            "bytes": report.bytes,
            **stage_timing(report.seconds, items=report.published, bytes=report.bytes),
        },
        published=markdown.table(
            ["page", "item", "bytes", "sha256"],
            [(item.external_id, item.path, item.bytes, item.content_sha256[:16]) for item in report.items],
        ),
        left=markdown.table(["page or file", "why"], [(left.name, left.reason) for left in report.left]),
    )
