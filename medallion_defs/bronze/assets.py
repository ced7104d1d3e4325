"""From a source's `fetch.py` to Dagster: one asset, one job and the check `on_time`, whatever the kind of fetch.

The sensor and the schedules are the kind's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field

from medallion_defs.bronze.contract import Delivery, FetchKind
from medallion_defs.bronze.fetching.fetch_time import read_fetch_time
from medallion_defs.bronze.fetching.report import FetchReport, LeftFile, describe
from medallion_defs.core import clock, db
from medallion_defs.core.content import SOURCES, Broken, Source, load_content, recipe_names
from medallion_defs.core.errors import ConfigurationError, TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.ops.dagster_asset import data_version, plain_failures
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.ops.watch import Look, Looker, build_checks
from medallion_defs.storage.item import BronzeItem


@dataclass(frozen=True)
class BronzeContent:
    """What the bronze process knows of one source: its facts, how its items come in, and the names of the recipes that read them."""

    source: Source
    fetch: FetchKind
    recipes: tuple[str, ...] = ()


def load_bronze_contents(broken: list[Broken] | None = None) -> list[BronzeContent]:
    """Return the sources that bronze fetches, by name. Folders that cannot be used are added to `broken`; without it they are logged."""
    fetches = load_content(SOURCES, "fetch", "FETCH", broken)
    sources = load_content(SOURCES, "source", "SOURCE", broken)
    return [
        BronzeContent(module.SOURCE, fetches[name].FETCH, tuple(recipe_names(SOURCES, name)))
        for name, module in sources.items()
        if name in fetches
    ]


def landing_names() -> list[str]:
    """Return the sources whose files are dropped in a folder below data/landing."""
    return [content.source.name for content in load_bronze_contents() if content.fetch.has_landing_folder]


class FetchConfig(dg.Config):
    """What a person may ask of one run."""

    rehash: bool = Field(False, description="Read everything again, also what is as it was when it was read last.")


def build_bronze(content: BronzeContent) -> dg.Definitions:
    """Return the asset, job, check, sensor and schedules of one source. Touches neither disk nor database."""
    asset, source = _build_asset(content), content.source
    job = dg.define_asset_job(
        f"bronze_{source.name}",
        selection=[asset],
        tags={LAYER_TAG: "bronze"},
        description=f"Takes what is new for {source.name} into data/bronze/{source.name}: {content.fetch.describe(source)}.",
    )
    return dg.Definitions(
        assets=[asset],
        asset_checks=[build_checks("bronze", source.name, "medallion_bronze", look_at([content]))],
        jobs=[job],
        sensors=[content.fetch.build_sensor(source)],
        schedules=content.fetch.build_schedules(source),
    )


def look_at(contents: Sequence[BronzeContent]) -> Looker:
    """Return the look at where the items of these sources come from. It needs no position and no question to the database."""

    def look(_connection: psycopg.Connection, settings: Settings, _positions: Mapping[str, int], now: datetime) -> list[Look]:
        return [content.fetch.look(settings, content.source.name, now) for content in contents]

    return look


def fetch_source(settings: Settings, content: BronzeContent, run_id: str | None, *, rehash: bool = False) -> FetchReport:
    """Take what is new into bronze, and write each group into the ledger once it is durable.

    A crash between the two loses nothing: silver's discovery finds items that the ledger does not know.

    Raises:
        ConfigurationError: the settings do not say where the items come from.
        TransientError: bronze, the database, or what the items come from cannot be read or written.
    """
    source = content.source
    if why := content.fetch.why_off(settings):
        raise ConfigurationError(f"bronze/{source.name}: {why}.")
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        ledger, time = Ledger(connection), read_fetch_time(connection, source.name)

        def register(items: Sequence[BronzeItem], refused: Sequence[LeftFile]) -> None:
            now = clock.now()
            with connection.transaction():
                ledger.register_published(DatasetIngestion.published(item, now, time.now) for item in items)
                ledger.register_refused(_refusal(source, left, now, run_id) for left in refused)

        return content.fetch.fetch(Delivery(settings, source, register, time, run_id, rehash))


def _refusal(source: Source, left: LeftFile, at: datetime, run_id: str | None) -> DatasetIngestion:
    filename = left.name.rpartition("/")[2]
    return DatasetIngestion.refused(source.name, left.name, filename, TerminalError(left.reason), at, run_id)


def _build_asset(content: BronzeContent) -> dg.AssetsDefinition:
    source, kind = content.source, content.fetch
    key = dg.AssetKey(["bronze", source.name])
    landing = {"landing_folder": f"data/landing/{source.name}"} if kind.has_landing_folder else {}

    @dg.asset(
        key=key,
        group_name=source.domain,
        kinds={"file", "bronze"},
        tags={LAYER_TAG: "bronze"},
        owners=list(source.owners),
        description=f"{source.title}, as they came: {kind.describe(source)}.\n\n{source.description}\n\n"
        "Materialize takes what is new now; with `rehash` everything is read again.",
        metadata=landing
        | {
            "bronze_folder": f"data/bronze/{source.name}",
            "recipes": ", ".join(content.recipes) or "none: each item is read whole",
        },
        required_resource_keys={"settings"},
        output_required=False,
        retry_policy=dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL),
        pool=f"bronze_{source.name}",
    )
    def bronze_asset(context: dg.AssetExecutionContext, config: FetchConfig) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        with plain_failures():
            if why := kind.why_off(settings):
                context.log.info(f"Nothing was taken: {why}.")
                return
            report = fetch_source(settings, content, context.run.run_id, rehash=config.rehash)
        for left in report.left["refused"]:
            context.log.error(f"{source.name}: {left.name} was refused: {left.reason}")
        # What is left where it is, and what was refused, is looked at by each run.
        if not report.published and not report.moved:
            context.log.info(f"Nothing was taken for {source.name}: {_count_left(report)}.")
            return
        version = data_version(context.instance, context.run.run_id, key, is_changed=bool(report.published))
        yield dg.MaterializeResult(metadata=describe(report), data_version=version)

    return bronze_asset


def _count_left(report: FetchReport) -> str:
    counts = {"unchanged": report.unchanged, "refused": report.refused, "still being written": report.waiting}
    return ", ".join(f"{number:,} {what}" for what, number in counts.items() if number) or "there is nothing complete"
