"""Secrets of a running stack: where they are, and that they are nowhere else."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.stack.logins import LOGINS, read_password
from medallion_defs.stack.running import RunningStack, running_stack
from tests.conftest import ROOT
from tests.folders import stack_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

SECONDS = 900.0
KEY, HOOK, LINEAGE = "planted-model-key-7d1c", "planted-hook-9a2e", "planted-lineage-key-5b3f"
ENVIRONMENT = {
    "MEDALLION_GENAI__API_KEY": KEY,
    "MEDALLION_GENAI__BASE_URL": "http://127.0.0.1:9",
    "MEDALLION_ALERTS__WEBHOOK_URL": f"http://127.0.0.1:9/{HOOK}",
    "MEDALLION_OPENLINEAGE__URL": "http://127.0.0.1:9/lineage",
    "MEDALLION_OPENLINEAGE__API_KEY": LINEAGE,
}
EVENT = {
    "event_id": "e1", "driver_id": "D1", "vehicle_id": "V1", "company_id": "C1", "event_type": "position",
    "event_at": "2026-11-01T10:00:00Z", "latitude": 50.0, "longitude": 8.0, "speed_kmh": 40.0,
}  # fmt: skip
TABLES = """SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"""
SHOWN = "{ instance { info } runsOrError { ... on Runs { results { runConfigYaml tags { key value } } } } }"


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """A stack with every secret set, which has loaded a file, refused one, and failed to post what is sent out."""
    with stack_folder() as folder, running_stack(Settings(root=ROOT, data_dir=folder / "data"), 0, ENVIRONMENT) as stack:
        landing = stack.settings.landing_path / "driver_events"
        for name, text in (("good.jsonl", json.dumps(EVENT) + "\n"), ("bad.xyz", "not an event\n")):
            (landing / f"{name}.part").write_text(text)
            (landing / f"{name}.part").rename(landing / name)
        stack.wait_for("both files", lambda: statuses(stack) == {"loaded", "dead"}, SECONDS)
        for sensor in ("send_alerts", "openlineage"):
            stack.wait_for(f"a tick of {sensor}", lambda name=sensor: has_ticked(stack, name), SECONDS)
        yield stack


def statuses(stack: RunningStack) -> set[str]:
    with psycopg.connect(stack.databases.medallion_url) as db:
        return {row[0] for row in db.execute("SELECT status FROM ops.file_ingestions").fetchall()}


def has_ticked(stack: RunningStack, sensor: str) -> bool:
    with psycopg.connect(stack.databases.dagster_url.replace("+psycopg2", "")) as dagster:
        query = "SELECT count(*) FROM job_ticks WHERE status <> 'STARTED' AND tick_body LIKE %s"
        return dagster.execute(query, (f"%{sensor}%",)).fetchone() != (0,)


def secrets(stack: RunningStack) -> dict[str, bytes]:
    folder = stack.settings.data_path / "postgres"
    passwords = {login: read_password(folder, login) for login in LOGINS}
    administrator = (folder / "password").read_text().strip()
    named = {"key": KEY, "webhook": HOOK, "lineage": LINEAGE, "administrator": administrator, **passwords}
    return {name: value.encode() for name, value in named.items()}


def found_in(stack: RunningStack, content: bytes) -> set[str]:
    return {name for name, secret in secrets(stack).items() if secret in content}


def test_invariant_18_no_secret_is_in_bronze_or_logs(stack: RunningStack) -> None:
    data = stack.settings.data_path
    known = {data / "postgres" / "password", *(data / "postgres" / "logins").iterdir()}
    leaks = {
        str(path.relative_to(data)): found
        for path in data.rglob("*")
        if path.is_file() and path not in known and (found := found_in(stack, path.read_bytes()))
    }
    assert leaks == {}


def test_invariant_18_no_secret_is_in_a_database(stack: RunningStack) -> None:
    """Metadata, run configuration, tags, ticks and errors are rows of Dagster's database."""
    rows = 0
    for url in (stack.databases.medallion_url, stack.databases.dagster_url.replace("+psycopg2", "")):
        with psycopg.connect(url) as db:
            for (table,) in db.execute(TABLES).fetchall():
                content = "\n".join(row[0] for row in db.execute(f"SELECT t::text FROM {table} AS t").fetchall())
                rows += content.count("\n")
                assert found_in(stack, content.encode()) == set(), table
    assert rows > 50


def test_invariant_18_no_secret_is_shown_by_the_page(stack: RunningStack) -> None:
    with urllib.request.urlopen(stack.url, timeout=60) as page:
        shown = page.read() + json.dumps(stack.ask(SHOWN)).encode()
    assert b"bronze/driver_events" in shown
    assert found_in(stack, shown) == set()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux shows the environment of a process")
@pytest.mark.parametrize(
    ("process", "expected"),
    [
        ("code-bronze", {"key", "webhook", "lineage", "medallion_bronze", "medallion_console", "medallion_dagster"}),
        ("code-silver", {"medallion_silver", "medallion_console", "medallion_dagster"}),
        ("code-gold", {"medallion_gold", "medallion_console", "medallion_dagster"}),
        ("daemon", {"medallion_dagster"}),
        ("web", {"medallion_dagster"}),
    ],
)
def test_a_process_has_the_secrets_that_it_needs(stack: RunningStack, process: str, expected: set[str]) -> None:
    environment = json.dumps(psutil.Process(stack.pid(process)).environ()).encode()
    assert found_in(stack, environment) == expected


def test_the_layers_work_under_their_own_logins(stack: RunningStack) -> None:
    with psycopg.connect(stack.databases.medallion_url) as db:
        query = "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE datname = 'dagster'"
        assert {row[0] for row in db.execute(query).fetchall()} == {"medallion_dagster"}
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(stack.databases.dagster_url.replace("+psycopg2", "")) as dagster:
        assert dagster.execute(owners).fetchall() == [("medallion_dagster",)]


def test_the_data_folder_is_the_owners(stack: RunningStack) -> None:
    data = stack.settings.data_path
    passed = 0o011 if stack.databases.embedded is not None and stack.databases.embedded.runs_as_other else 0
    assert data.stat().st_mode & 0o777 == 0o700 | passed
    for name in ("bronze", "dagster", "dagster/logs", "dagster/storage", "landing", "landing/driver_events", "derived"):
        assert (data / name).stat().st_mode & 0o777 == 0o700, name
    assert {path.stat().st_mode & 0o222 for path in (data / "bronze" / "driver_events" / "good.jsonl").iterdir()} == {0}
