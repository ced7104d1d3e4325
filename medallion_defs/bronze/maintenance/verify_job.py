"""All of bronze hashed again once in `verify.every_days`, a slice a night: the job, its schedule, and the check of each source's asset.

A slice is the share of the items that the time since the last slice asks for, so that nights on which the machine was off are made up
for. How far a pass is stands in the database and is committed every few items: a run that is killed goes on where it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
import msgspec

from medallion_defs.core import clock, db
from medallion_defs.core.markdown import Markdown, escape
from medallion_defs.core.settings import Settings
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.ops.verifications import Verification, read_verification, save_verification
from medallion_defs.storage.publishers import open_store
from medallion_defs.storage.publishing import BronzeStore
from medallion_defs.storage.readers import open_reader

AS_PUBLISHED = "as_published"
_COMMIT_ITEMS = 100
_NIGHT = timedelta(days=1)


@dataclass(frozen=True)
class Slice:
    """What one run verified of a source, and how far the source is now."""

    items: int
    verification: Verification


def verify_slice(settings: Settings, source_type: str, every_days: int, now: datetime) -> Slice:
    """Hash the next slice of a source; what was found of the same items before is replaced."""
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        known = read_verification(connection, source_type)
        store, items = open_store(settings), 0
        share = share_of(known.sliced_at, every_days, now)
        for items, (directory, sentences) in enumerate(_look(store, source_type, known.after, share), start=1):
            known = _noted(known, directory, sentences)
            if items % _COMMIT_ITEMS == 0:
                save_verification(connection, known)
        known = msgspec.structs.replace(known, sliced_at=now)
        present = set(open_reader(settings).directories(source_type))
        if not any(name > known.after for name in present):
            known = _passed(known, present, now)
        save_verification(connection, known)
    return Slice(items, known)


def share_of(sliced_at: datetime | None, every_days: int, now: datetime) -> float:
    """Return which share of a source's items is due, by the time since the last slice; a night's at least, and all at most. Pure."""
    since = _NIGHT if sliced_at is None else max(now - sliced_at, _NIGHT)
    return min(since / timedelta(days=every_days), 1.0)


def build_verify(names: Sequence[str]) -> dg.Definitions:
    """Return the job, its schedule, and the checks of the assets of these sources."""

    @dg.op(required_resource_keys={"settings"}, description="Hashes the next slice of each source; `verify.every_days` says how large.")
    def verify_bronze_slice(context: dg.OpExecutionContext) -> None:
        settings: Settings = context.resources.settings
        every_days = settings.verify.every_days
        if every_days is None:
            context.log.info("Nothing was hashed: verify.every_days is empty.")
            return
        done = {name: verify_slice(settings, name, every_days, clock.now()) for name in open_store(settings).source_types()}
        for name, part in done.items():
            if finding := part.verification.judge():
                context.log.error(finding.sentence)
            if name in names:
                context.instance.report_runless_asset_event(_evaluation(part.verification))
        context.add_output_metadata(as_metadata({f"items_{name}": part.items for name, part in done.items()}))

    @dg.job(
        name="verify_bronze", tags={LAYER_TAG: "bronze"}, description="Hashes a slice of bronze again, all of it in `verify.every_days`."
    )
    def verify_bronze() -> None:
        verify_bronze_slice()

    schedule = dg.ScheduleDefinition(
        name="verify_bronze", job=verify_bronze, cron_schedule="50 1 * * *", default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Hashes a slice of bronze again every night.",
    )  # fmt: skip
    return dg.Definitions(jobs=[verify_bronze], schedules=[schedule], asset_checks=[_build_check(name) for name in names])


def _build_check(name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=["bronze", name], name=AS_PUBLISHED, required_resource_keys={"settings"},
        description="what was hashed again is as it was published; evaluated by the schedule verify_bronze",
    )  # fmt: skip
    def as_published(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with db.connect(context.resources.settings, "medallion_bronze") as connection:
            found = read_verification(connection, name)
        return dg.AssetCheckResult(
            passed=found.judge() is None, severity=dg.AssetCheckSeverity.ERROR, description=_describe(found), metadata=_facts(found)
        )

    return as_published


def _evaluation(verification: Verification) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["bronze", verification.source_type]),
        check_name=AS_PUBLISHED,
        passed=verification.judge() is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_describe(verification),
        metadata=_facts(verification),
    )


def _describe(verification: Verification) -> Markdown:
    # A sentence may hold the name of a file, and the page renders a description.
    finding = verification.judge()
    return escape(finding.sentence if finding else "what was hashed again is as it was published")


def _facts(verification: Verification) -> dict[str, int | str]:
    return {
        "items_changed": len(verification.problems),
        "last_slice": str(verification.sliced_at or "never"),
        "last_whole_pass": str(verification.passed_at or "never"),
    }


def _look(store: BronzeStore, source_type: str, after: str, share: float) -> Iterator[tuple[str, list[str]]]:
    for directory, problems in store.verify_slice(source_type, after, share):
        # What is dated ahead nobody can put right; 'bronze verify' lists it.
        yield directory, [f"{problem.message} {problem.remedy}" for problem in problems if problem.kind != "future"]


def _noted(known: Verification, directory: str, sentences: list[str]) -> Verification:
    others = {name: found for name, found in known.problems.items() if name != directory}
    return msgspec.structs.replace(known, after=directory, problems=others | ({directory: sentences} if sentences else {}))


def _passed(known: Verification, present: set[str], now: datetime) -> Verification:
    """The pass is at its end: the next begins at the first item, and what was moved out of bronze is no problem of it any more."""
    problems = {name: found for name, found in known.problems.items() if name in present}
    return msgspec.structs.replace(known, after="", problems=problems, passed_at=now)
