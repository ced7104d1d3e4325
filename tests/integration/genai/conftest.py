"""A transport whose provider is the emulator: the real client, real Postgres, and requests in the outbox."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core import clock, db
from medallion_defs.core.sections import GenaiSettings, ModelPrice
from medallion_defs.core.settings import Settings
from medallion_defs.genai.client import GeminiClient
from medallion_defs.genai.collect import collect_batches
from medallion_defs.genai.cost import Mode
from medallion_defs.genai.emulator import running
from medallion_defs.genai.emulator_jobs import Provider
from medallion_defs.genai.online import ask_online
from medallion_defs.genai.poll import Polled, poll_batches
from medallion_defs.genai.report import BatchReport
from medallion_defs.genai.requests import Prompt, item_token, outbox_path, request_line, write_requests
from medallion_defs.genai.state import BatchState, GenaiBatch, Intent, RequestRecord
from medallion_defs.genai.submit import Sent, send_batches
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy, ModelRequest, ModelTask, TaskSpec
from medallion_defs.labeling.models.answers import SOURCE_TYPES, read_ledger_batch
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.item import BronzeItem
from tests.integration.labeling.notes import CREATE_NOTES, NOTES

MODEL = "gemini-3.8-flash"
PROMPT = Prompt(MODEL, {"type": "object", "properties": {"subject": {"type": "string"}}, "required": ["subject"]})
PRICES = [
    ModelPrice.model_validate({
        "model": MODEL, "mode": mode, "valid_from": "2026-01-01", "input_usd": "0.375", "cached_input_usd": "0.075", "output_usd": "1.875",
    })
    for mode in ("batch", "online")
]  # fmt: skip


class Verdict(BaseModel):
    """What the model is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mood: str
    stars: int = Field(ge=1, le=5)


def genai_options(url: str) -> GenaiSettings:
    """Settings of a transport that talks to the emulator and never waits."""
    return GenaiSettings(base_url=url, timeout_seconds=5, adopt_seconds=0, prices=PRICES, requests_per_minute=100_000)


@dataclass
class Transport:
    """The steps of the transport as the bronze location takes them."""

    settings: Settings
    provider: Provider
    connection: psycopg.Connection
    client: GeminiClient
    reserved: list[str] = field(default_factory=list)

    @property
    def state(self) -> BatchState:
        return BatchState(self.connection)

    def reserve(self, *keys: str, mode: Mode = "batch") -> str:
        """Write down a batch of one small request per key; return its id."""
        batch_id = f"test-{uuid4().hex[:8]}"
        lines = [request_line(key, item_token(batch_id, key), f"page {key}", [], PROMPT, 0) for key in keys]
        written = write_requests(outbox_path(self.settings.data_path, batch_id), lines)
        intent = Intent(
            batch_id=batch_id, mode=mode, task_key="page.test", prompt_id="p", tasks_batch_id=None, model=MODEL,
            fingerprint=written.fingerprint, request_count=len(keys), estimated_tokens=100, reserved_usd=Decimal("0.01"),
            deadline_at=clock.now() + timedelta(hours=30),
        )  # fmt: skip
        with self.connection.transaction():
            assert self.state.claim_records(batch_id, keys) == set(keys)
            self.state.reserve(intent, [RequestRecord(key, uuid4(), 1, item_token(batch_id, key)) for key in keys], clock.now())
        return batch_id

    def send(self) -> list[Sent]:
        return list(send_batches(self.settings, self.connection, self.client))

    def ask_online(self) -> list[str]:
        return [sent.batch_id for sent in ask_online(self.settings, self.connection, self.client) if sent.outcome == "asked"]

    def poll(self) -> Polled:
        return poll_batches(self.connection, self.client, self.settings.genai, None, 5.0)

    def collect(self) -> list[BronzeItem]:
        return [item for _, item in collect_batches(self.settings, self.connection, self.client, "run")]

    def read(self, batch_id: str) -> GenaiBatch:
        batch = self.state.read(batch_id)
        assert batch is not None
        return batch


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def genai_settings(settings: Settings, provider: Provider) -> Iterator[Settings]:
    with running(provider) as url:
        yield settings.model_copy(update={"genai": genai_options(url)})


@pytest.fixture
def transport(genai_settings: Settings, provider: Provider) -> Iterator[Transport]:
    client = GeminiClient(genai_settings.genai)
    with db.connect(genai_settings, "medallion_bronze", autocommit=True) as connection:
        yield Transport(genai_settings, provider, connection, client)
    client.close()


@pytest.fixture
def notes(db: psycopg.Connection) -> psycopg.Connection:
    """A connection, as owner, to the database of `transport`, with the table `silver.notes`."""
    db.execute(CREATE_NOTES)
    db.commit()
    return db


def judge_task(output_model: type[BaseModel] = Verdict, code_version: str = "v1") -> Task:
    """A task that asks a model about notes; the transport calls each by its key."""
    spec = TaskSpec(
        task_key="note.judge", media_type="text", title="Judge", description="What a model thinks of the note.", domain="notes",
        subjects=NOTES, output_model=output_model,
        model=ModelTask(lambda _, prompt: ModelRequest(prompt), record_key=lambda item: item.subject_key),
        batch_strategy=BatchStrategy(max_items=1_000),
    )  # fmt: skip
    profile = PromptProfile(
        task_key=spec.task_key, profile="default", model=MODEL, template="Judge: {body}", generation={"maxOutputTokens": 100},
        answer_schema=Verdict.model_json_schema(),
    )  # fmt: skip
    return Task(spec, (profile,), code_version)


def ask(transport: Transport, task: Task, polls: int = 1_000) -> None:
    """Plan, ask, send, and look at what is under way so often, or until it is over; collect what is."""
    for batch_id in runner.plan(transport.settings, task).batch_ids:
        runner.process(transport.settings, task, batch_id)
    transport.send()
    for _ in range(polls):
        if transport.state.list_batches("active"):
            transport.poll()
    transport.collect()


def run_round(transport: Transport, task: Task, run_id: str = "run") -> list[BatchReport]:
    """Plan, ask, send, poll to the end, collect, parse, consolidate: one whole round of everything that is open."""
    for batch_id in runner.plan(transport.settings, task).batch_ids:
        runner.process(transport.settings, task, batch_id)
    runner.consolidate(transport.settings, task)
    transport.send()
    transport.ask_online()
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    return parse(transport, task, run_id)


def parse(transport: Transport, task: Task, run_id: str = "run") -> list[BatchReport]:
    """Parse what is in bronze and was not parsed."""
    reports = []
    for source_type in SOURCE_TYPES:
        with db.connect(transport.settings, "medallion_gold") as connection:
            batches = Ledger(connection).claim(source_type, transport.settings.source(source_type), "v1", clock.now())
        for batch in batches:
            reports += read_ledger_batch(transport.settings, {task.task_key: task}, source_type, batch.batch_id, run_id)
    return reports
