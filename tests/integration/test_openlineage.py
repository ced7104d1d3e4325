"""OpenLineage events reach a receiver on loopback: what they say, and that no trouble of the receiver loses one or touches a load."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import dagster as dg
import psycopg
import pytest

from medallion_defs.bronze.posting.openlineage import Shipment, newest_change, ship
from medallion_defs.core import clock
from medallion_defs.core.sections import OpenLineageSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from tests.integration.dagster_assets import drop, materialize

SILVER, GOLD = ["silver", "driver_events"], ["gold", "driver_events_enriched"]


class Receiver:
    """An OpenLineage endpoint. Answers are taken from `answers`, then 201; a delay of the answer is ended by `release`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.release = threading.Event()
        self.release.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.release.wait(60)
                code = receiver.answers.pop(0) if receiver.answers else 201
                if code == 201:
                    receiver.events.append(json.loads(body))
                    receiver.headers.append(dict(self.headers))
                self.send_response(code)
                if code in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(b"said the receiver")

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/api/v1/lineage"

    def said(self) -> list[tuple[str, str]]:
        return [(event["eventType"], event["job"]["name"]) for event in self.events]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.release.set()
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def sending(settings: Settings, receiver: Receiver) -> Settings:
    return with_openlineage(settings, url=receiver.url)


def with_openlineage(settings: Settings, **options: object) -> Settings:
    return settings.model_copy(update={"openlineage": OpenLineageSettings.model_validate(options)})


def load(settings: Settings, instance: dg.DagsterInstance, name: str = "day.jsonl") -> str:
    """Take one event to silver; return the silver run's id."""
    drop(settings, "driver_events", name, b'{"event_id": "e1", "company_id": "C1"}\n{"event_id": ""}\n')
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success
    result = materialize(silver.defs, SILVER, settings, instance)
    assert result.success
    return result.run_id


def ship_all(settings: Settings, instance: dg.DagsterInstance, cursor: int = 0) -> Shipment:
    """One tick, a minute from now: everything has settled."""
    return ship(instance, settings, cursor, clock.now() + timedelta(minutes=1))


def tick(settings: Settings, instance: dg.DagsterInstance, cursor: str | None) -> tuple[str, str]:
    """Evaluate the sensor once; return its cursor and what it says."""
    [sensor] = [sensor for sensor in bronze.defs.sensors or () if sensor.name == "openlineage"]
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"settings": settings}, definitions=bronze.defs) as context:
        data = sensor.evaluate_tick(context)
    return data.cursor or "", data.skip_message or ""


def test_a_silver_run_tells_its_files_its_table_and_its_rows(sending: Settings, instance: dg.DagsterInstance, receiver: Receiver) -> None:
    run_id = load(sending, instance)
    assert ship_all(sending, instance).sent == 2
    start, complete = receiver.events
    assert receiver.said() == [("START", "silver/driver_events"), ("COMPLETE", "silver/driver_events")]
    assert {start["run"]["runId"], complete["run"]["runId"]} == {run_id}
    assert (complete["job"]["namespace"], complete["schemaURL"].partition("#")[0]) == (
        "medallion", "https://openlineage.io/spec/2-0-2/OpenLineage.json",
    )  # fmt: skip
    [files], [table] = complete["inputs"], complete["outputs"]
    assert (files["namespace"], files["name"]) == ("file", str(sending.bronze_path / "driver_events"))
    read = files["inputFacets"]["inputStatistics"]
    assert (read["rowCount"], read["fileCount"], read["size"]) == (2, 1, 56)
    assert table["namespace"] == "postgres://localhost:5432"
    assert table["name"].endswith(".silver.driver_events")
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 1
    assert table["facets"]["schema"]["fields"][0] == {
        "name": "event_id", "type": "text", "ordinal_position": 1, "description": "key of the event, unique over all deliveries",
    }  # fmt: skip
    assert "password" not in json.dumps(receiver.events)


def test_a_gold_run_tells_which_column_comes_from_which(sending: Settings, instance: dg.DagsterInstance, receiver: Receiver) -> None:
    load(sending, instance)
    assert materialize(gold.defs, GOLD, sending, instance).success
    ship_all(sending, instance)
    complete = receiver.events[-1]
    assert receiver.said()[-2:] == [("START", "gold/driver_events_enriched"), ("COMPLETE", "gold/driver_events_enriched")]
    [table] = complete["outputs"]
    fields = table["facets"]["columnLineage"]["fields"]
    inputs = {dataset["name"] for dataset in complete["inputs"]}
    assert {name.partition(".")[2] for name in inputs} == {"silver.driver_events", "silver.companies"}
    [source] = fields["company_name"]["inputFields"]
    assert (source["name"].partition(".")[2], source["field"]) == ("silver.companies", "name")
    assert {field["name"] for name in fields for field in fields[name]["inputFields"]} == inputs
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 1


def test_a_run_that_fails_says_why(sending: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, receiver: Receiver) -> None:
    load(sending, instance)
    cursor = newest_change(instance)
    db.execute("DROP TABLE gold.driver_events_enriched")
    db.commit()
    result = materialize(gold.defs, GOLD, sending, instance)
    assert not result.success
    ship_all(sending, instance, cursor)
    assert receiver.said() == [("START", "gold/driver_events_enriched"), ("FAIL", "gold/driver_events_enriched")]
    assert receiver.events[1]["run"]["runId"] == result.run_id
    assert 'relation "gold.driver_events_enriched" does not exist' in receiver.events[1]["run"]["facets"]["errorMessage"]["message"]


def test_a_run_of_several_tables_gives_each_its_own_run_below_it(
    sending: Settings, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    assets = [asset for asset in silver.defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    both = [asset for asset in assets if asset.key.path in (SILVER, ["silver", "companies"])]
    result = dg.materialize(both, instance=instance, resources={"settings": sending})
    ship_all(sending, instance)
    assert sorted(receiver.said()) == [
        (kind, name) for kind in ("COMPLETE", "START") for name in ("silver/companies", "silver/driver_events")
    ]  # fmt: skip
    assert len({UUID(event["run"]["runId"]) for event in receiver.events}) == 2
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in receiver.events} == {result.run_id}


def test_while_nobody_answers_loads_go_on_and_every_event_comes_later_in_order(
    sending: Settings, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    receiver.server.server_close()  # the port is known, and nobody listens
    load(sending, instance)
    waiting = ship_all(sending, instance)
    assert waiting.sent == 0
    assert "127.0.0.1 does not answer" in str(waiting.waiting)
    other = Receiver()
    thread = threading.Thread(target=other.server.serve_forever)
    thread.start()
    done = ship_all(with_openlineage(sending, url=other.url), instance, waiting.cursor)
    other.server.shutdown()
    thread.join()
    other.server.server_close()
    assert (done.sent, done.waiting) == (2, None)
    assert [kind for kind, _ in other.said()] == ["START", "COMPLETE"]
    assert ship_all(sending, instance, done.cursor) == Shipment(done.cursor, 0)


@pytest.mark.parametrize("code", [302, 307, 401, 404, 429, 500, 503])
def test_an_answer_that_may_change_makes_the_event_wait(
    sending: Settings, instance: dg.DagsterInstance, receiver: Receiver, code: int
) -> None:
    load(sending, instance)
    receiver.answers = [201, code]
    waiting = ship_all(sending, instance)
    assert (waiting.sent, waiting.refused) == (1, ())
    assert f"answered {code}" in str(waiting.waiting)
    assert ship_all(sending, instance, waiting.cursor).sent == 1
    assert [kind for kind, _ in receiver.said()] == ["START", "COMPLETE"]


def test_an_event_that_is_refused_is_kept_and_does_not_stop_the_next(
    sending: Settings, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    run_id = load(sending, instance)
    receiver.answers = [422]
    shipment = ship_all(sending, instance)
    assert (shipment.sent, len(shipment.refused), shipment.waiting) == (1, 1, None)
    [line] = (sending.data_path / "openlineage" / "refused.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert (kept["event"]["eventType"], kept["event"]["run"]["runId"]) == ("START", run_id)
    assert "answered 422" in kept["reason"]
    assert "said the receiver" in kept["reason"]


def test_a_receiver_that_hangs_is_given_up(settings: Settings, instance: dg.DagsterInstance, receiver: Receiver) -> None:
    sending = with_openlineage(settings, url=receiver.url, timeout_seconds=0.1)
    load(sending, instance)
    receiver.release.clear()
    assert "does not answer: ReadTimeout: timed out" in str(ship_all(sending, instance).waiting)


def test_the_key_is_sent_and_shown_nowhere(settings: Settings, instance: dg.DagsterInstance, receiver: Receiver) -> None:
    sending = with_openlineage(settings, url=receiver.url, api_key="secret-key")
    load(sending, instance)
    receiver.answers = [201, 403]
    assert "secret-key" not in str(ship_all(sending, instance))
    assert receiver.headers[0]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in repr(sending)


def test_events_can_be_lines_of_a_file(settings: Settings, instance: dg.DagsterInstance) -> None:
    path = settings.data_path / "lineage" / "events.jsonl"
    writing = with_openlineage(settings, file=path)
    load(writing, instance)
    shipment = ship_all(writing, instance)
    assert [json.loads(line)["eventType"] for line in path.read_text().splitlines()] == ["START", "COMPLETE"]
    path.unlink()
    path.mkdir()
    materialize(silver.defs, SILVER, writing, instance)
    assert "cannot be written" in str(ship_all(writing, instance, shipment.cursor).waiting)


def test_it_is_off_by_default_and_starts_with_what_happens_after_it_is_switched_on(
    settings: Settings, sending: Settings, instance: dg.DagsterInstance, receiver: Receiver
) -> None:
    load(settings, instance)
    cursor, says = tick(settings, instance, None)
    assert says.startswith("off")
    cursor, says = tick(sending, instance, cursor)
    assert says.startswith("switched on")
    load(sending, instance, "next.jsonl")
    shipment = ship_all(sending, instance, int(cursor))
    assert shipment.sent == 2
    assert tick(sending, instance, str(shipment.cursor)) == (str(shipment.cursor), "0 sent, 0 refused")
    cursor, says = tick(settings, instance, str(shipment.cursor))
    assert (cursor, says.startswith("off")) == ("off", True)
    assert len(receiver.events) == 2


def test_an_event_that_has_just_been_written_waits_for_those_before_it(sending: Settings, instance: dg.DagsterInstance) -> None:
    load(sending, instance)
    assert ship(instance, sending, 0, clock.now()).sent == 0


def test_a_backlog_longer_than_a_page_is_sent_whole_and_in_order(
    sending: Settings, instance: dg.DagsterInstance, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medallion_defs.bronze.posting.openlineage._PAGE", 2)
    runs = [load(sending, instance, f"{day}.jsonl") for day in range(4)]
    cursor = 0
    while (shipment := ship_all(sending, instance, cursor)).cursor > cursor:
        cursor = shipment.cursor
    assert [event["run"]["runId"] for event in receiver.events] == [run for run in runs for _ in range(2)]
