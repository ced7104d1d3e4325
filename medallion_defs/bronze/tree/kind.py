"""Trees of labelled images as a kind of fetch: they belong to another, are read, and are left as they are. Label and image are one item.

The sensor stats folders; a file that is edited in place moves none of them, so every night all files are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from medallion_defs.bronze.contract import Delivery, ReadScope
from medallion_defs.bronze.fetching.report import FetchReport
from medallion_defs.bronze.tree.fetch import STATE_FOLDER, TreeState, fetch_tree
from medallion_defs.bronze.tree.scan import tree_fingerprint
from medallion_defs.core import clock
from medallion_defs.core.content import Source
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import format_duration
from medallion_defs.ops.lateness import Verdict, expected_of, judge_waiting
from medallion_defs.ops.run_requests import LIVE_STATUSES, request_run
from medallion_defs.ops.watch import Look
from medallion_defs.storage.publishers import open_store


@dataclass(frozen=True)
class TreeFetch:
    """Takes what is new or has changed in two trees.

    Attributes:
        read_scope: where they are.
        off: why nothing is fetched where the settings name no trees, as the end of a sentence.
    """

    read_scope: ReadScope
    off: str

    @property
    def has_landing_folder(self) -> bool:
        return False

    def describe(self, _source: Source) -> str:
        return "one immutable directory per label, with the label and its image"

    def why_off(self, settings: Settings) -> str | None:
        return self.off if self.read_scope(settings) is None else None

    def fetch(self, delivery: Delivery) -> FetchReport:
        settings, source = delivery.settings, delivery.source
        scope = self.read_scope(settings)
        if scope is None:
            raise ConfigurationError(f"bronze/{source.name}: {self.off}.")
        return fetch_tree(
            open_store(settings), source, scope, _state(settings, source.name), delivery.register,
            time=delivery.time, settle_seconds=settings.source(source.name).landing.settle_seconds, run_id=delivery.run_id,
            rehash=delivery.rehash,
        )  # fmt: skip

    def build_sensor(self, source: Source) -> dg.SensorDefinition:
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
            scope = self.read_scope(settings)
            if scope is None:
                return dg.SkipReason(self.off)
            live = context.instance.get_runs(filters=dg.RunsFilter(job_name=job, statuses=list(LIVE_STATUSES)), limit=1)
            if live:
                return dg.SkipReason(f"run {live[0].run_id} is working on it")
            options, now = settings.source(source.name), clock.now()
            fingerprint = tree_fingerprint(scope, now, options.landing.settle_seconds)[:32]
            waiting = _waiting_since(settings, source.name)
            run_key = f"bronze/{source.name}/{fingerprint}{f'/{waiting}' if waiting else ''}"
            request = request_run(context.instance, run_key, options.retry_seconds, now)
            return dg.SkipReason(f"{source.name}: {request}") if isinstance(request, str) else request

        return tree_sensor

    def build_schedules(self, source: Source) -> Sequence[dg.ScheduleDefinition]:
        return (
            dg.ScheduleDefinition(
                name=f"scan_{source.name}",
                job_name=f"bronze_{source.name}",
                cron_schedule="30 2 * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description="Looks at every file once a night: what was edited in place moves no folder.",
            ),
        )

    def look(self, settings: Settings, name: str, now: datetime) -> Look:
        subject, nanoseconds = f"bronze/{name}", _waiting_since(settings, name)
        options, invalid = expected_of(settings, subject, name)
        since = None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC)
        found = (*invalid, *judge_waiting(subject, f"tree_{name}", since, options.max_lag, now))
        lag_seconds = 0.0 if since is None else (now - since).total_seconds()
        return Look(Verdict(subject, found, now), {"lag_seconds": lag_seconds, "max_lag": format_duration(options.max_lag)})


def _state(settings: Settings, name: str) -> TreeState:
    return TreeState(settings.landing_path / STATE_FOLDER, name)


def _waiting_since(settings: Settings, name: str) -> int | None:
    """Return since when items wait that had changed just before the last fetch, in ns; None when none does."""
    try:
        return _state(settings, name).waiting_path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
