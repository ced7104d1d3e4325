"""The landing folder as a kind of fetch: people or other systems drop files in `data/landing/{source}/`; one file is one item.

The sensor reads names and stats; copying is the run's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from medallion_defs.bronze.contract import Delivery
from medallion_defs.bronze.fetching.report import FetchReport
from medallion_defs.bronze.landing.fetch import fetch_landing, is_refused_already
from medallion_defs.bronze.landing.freshness import look_at_landing
from medallion_defs.bronze.landing.scan import landing_fingerprint
from medallion_defs.core import clock
from medallion_defs.core.content import Source
from medallion_defs.core.settings import Settings
from medallion_defs.ops.run_requests import request_run
from medallion_defs.ops.watch import Look
from medallion_defs.storage.publishers import open_store


@dataclass(frozen=True)
class LandingFetch:
    """Takes every complete file of the source's landing folder."""

    @property
    def has_landing_folder(self) -> bool:
        return True

    def describe(self, source: Source) -> str:
        return f"one immutable directory per file dropped in `data/landing/{source.name}/`"

    def why_off(self, _settings: Settings) -> str | None:
        return None

    def fetch(self, delivery: Delivery) -> FetchReport:
        settings, source = delivery.settings, delivery.source
        (settings.landing_path / source.name).mkdir(parents=True, exist_ok=True)
        return fetch_landing(
            open_store(settings), source, settings.source(source.name).landing, settings.landing_path, delivery.register,
            time=delivery.time, run_id=delivery.run_id, rehash=delivery.rehash,
        )  # fmt: skip

    def build_sensor(self, source: Source) -> dg.SensorDefinition:
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

    def build_schedules(self, _source: Source) -> Sequence[dg.ScheduleDefinition]:
        return ()

    def look(self, settings: Settings, name: str, now: datetime) -> Look:
        return look_at_landing(settings, name, now)
