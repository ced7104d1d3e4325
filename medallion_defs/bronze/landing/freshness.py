"""Whether landing is taken: a folder where complete files lie for hours looks, to the ledger, like one where nothing is dropped."""

from datetime import UTC, datetime

from medallion_defs.bronze.landing.scan import scan_landing
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import format_duration
from medallion_defs.ops.lateness import Verdict, expected_of, judge_landing
from medallion_defs.ops.watch import Look


def look_at_landing(settings: Settings, name: str, now: datetime) -> Look:
    """Return whether complete files lie in the landing folder for too long. Asks the disk alone."""
    subject = f"bronze/{name}"
    options, invalid = expected_of(settings, subject, name)
    # Files that are left where they are have been taken, or not: the folder does not say.
    is_emptied = options.landing.after == "move"
    ready = scan_landing(settings.landing_path, name, options.landing, now).ready if is_emptied else ()
    # When it got its name or was moved here; the mtime may be that of another machine, years ago.
    since = min((datetime.fromtimestamp(file.state.ctime_ns / 1e9, UTC) for file in ready), default=None)
    verdict = Verdict(subject, (*invalid, *judge_landing(name, len(ready), since, options.max_lag, now)), now)
    lag_seconds = 0.0 if since is None else (now - since).total_seconds()
    return Look(verdict, {"lag_seconds": lag_seconds, "max_lag": format_duration(options.max_lag), "files_waiting": len(ready)})
