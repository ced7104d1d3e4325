"""What a profile would cost before anybody promotes it: how many inputs would be asked about, tokens and dollars. Changes nothing.

Every subject of the task is looked at; a sample of those without an answer is made into real requests, and scaled. Nothing is sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from medallion_defs.core import clock, db, ids
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.genai.cost import Mode, estimate_usd
from medallion_defs.genai.requests import DEFAULT_OUTPUT_TOKENS, Media, estimate_tokens, item_token, request_line
from medallion_defs.labeling.contract import Candidate, ModelTask, WorkItem
from medallion_defs.labeling.engine.batch import input_path
from medallion_defs.labeling.models.asking import prompt_of
from medallion_defs.labeling.models.questions import render_template
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task

_SQL = load_queries("medallion_defs.labeling.models", "estimate.sql")
_CHUNK_ROWS = 5_000
SAMPLE = 50


@dataclass(frozen=True)
class Estimate:
    """What a profile would cost.

    Attributes:
        inputs: different inputs that the task's subjects have now.
        reused: those that have an answer to this profile already; they are not asked again.
        to_ask: the others: what the profile makes stale.
        sampled: requests that were built; `unaskable`: inputs of the sample of which none can be made, with the first reason.
        prompt_tokens: of all requests to come.
        output_tokens: of all answers to come, as those to this task were so far; None: there are none to judge by.
        usd: what that costs; None without `output_tokens`, or when no model is asked.
        usd_at_most: the same if every answer takes all tokens it may; what is reserved when they are sent.
    """

    task_key: str
    profile: str
    prompt_id: str
    model: str | None
    mode: Mode | None
    inputs: int
    reused: int
    to_ask: int
    sampled: int = 0
    unaskable: int = 0
    unaskable_reason: str | None = None
    prompt_tokens: int = 0
    output_tokens: int | None = None
    usd: Decimal | None = None
    usd_at_most: Decimal = Decimal(0)


@dataclass(frozen=True)
class _Sampled:
    tokens: Sequence[int]
    reasons: Sequence[str]


def estimate(settings: Settings, task: Task, profile: PromptProfile, sample: int = SAMPLE) -> Estimate:
    """Estimate what the profile would cost if it were promoted now.

    Args:
        sample: most inputs made into requests, spread over all.

    Raises:
        ConfigurationError: the model has no price, or the subjects' queries do not return what they should.
    """
    with db.connect(settings, "medallion_console") as connection:
        inputs = _read_inputs(connection, task, profile.prompt_id)
        answered = _answered(connection, list(inputs))
        open_ = [candidate for task_id, candidate in inputs.items() if task_id not in answered]
        found = Estimate(
            task.task_key, profile.profile, profile.prompt_id, profile.model, None, len(inputs), len(answered), len(open_)
        )  # fmt: skip
        if task.spec.model is None or not open_:
            return found
        spread = open_[:: max(1, -(-len(open_) // max(sample, 1)))]
        return _priced(settings, connection, found, profile, _build(settings, connection, task, profile, spread))


def describe_promotion(settings: Settings, task: Task, profile: PromptProfile) -> str:
    """Return what it means that the profile has replaced the primary by itself: inputs to ask about, and dollars."""
    begin = f"Profile '{profile.profile}' ({profile.prompt_id}) has replaced the primary of {task.task_key} by itself"
    if task.spec.model is None:
        return f"{begin}: a model is not asked, so it costs nothing."
    try:
        found = estimate(settings, task, profile)
    except ConfigurationError as error:
        return f"{begin}. What it costs is not known: {error}"
    likely = "" if found.usd is None else f"about {found.usd:.4f} USD, "
    return (
        f"{begin}: {found.to_ask:,} inputs are asked about again, {found.reused:,} have an answer to it already; "
        f"{likely}at most {found.usd_at_most:.4f} USD, within the caps (genai.max_usd_per_day is {settings.genai.max_usd_per_day})."
    )


def _priced(settings: Settings, connection: psycopg.Connection, found: Estimate, profile: PromptProfile, sampled: _Sampled) -> Estimate:
    genai, prompt, day = settings.genai, prompt_of(profile), clock.now().date()
    mode: Mode = "online" if found.to_ask <= genai.online_requests else "batch"
    tried = len(sampled.tokens) + len(sampled.reasons)
    scale = Decimal(found.to_ask) / max(tried, 1)
    most = int(prompt.generation.get("maxOutputTokens", DEFAULT_OUTPUT_TOKENS))
    [(mean,)] = connection.execute(_SQL["output_tokens"], {"task_key": found.task_key}).fetchall()

    def usd(output_tokens: int) -> Decimal:
        return (
            sum((estimate_usd(tokens, output_tokens, genai.prices, prompt.model, mode, day) for tokens in sampled.tokens), Decimal(0))
            * scale
        )

    return replace(
        found,
        mode=mode,
        sampled=tried,
        unaskable=len(sampled.reasons),
        unaskable_reason=next(iter(sampled.reasons), None),
        prompt_tokens=round(sum(sampled.tokens) * scale),
        output_tokens=None if mean is None else round(min(mean, most) * len(sampled.tokens) * scale),
        usd=None if mean is None else usd(round(min(mean, most))),
        usd_at_most=usd(most),
    )


def _read_inputs(connection: psycopg.Connection, task: Task, prompt_id: str) -> dict[UUID, Candidate]:
    """Return one subject for each input, by the id of the task that it would be."""
    spec, found = task.spec, dict[UUID, Candidate]()
    with connection.cursor("candidates", row_factory=class_row(Candidate)) as cursor:
        cursor.itersize = _CHUNK_ROWS
        for candidate in cursor.execute(spec.subjects.candidates, {"after": -1, "limit": None}):
            found[ids.task_id(spec.task_key, spec.media_type, candidate.file_hash, prompt_id)] = candidate
    return found


def _answered(connection: psycopg.Connection, task_ids: Sequence[UUID]) -> set[UUID]:
    return {
        task_id
        for start in range(0, len(task_ids), _CHUNK_ROWS)
        for (task_id,) in connection.execute(_SQL["answered"], {"task_ids": task_ids[start : start + _CHUNK_ROWS]})
    }


def _build(
    settings: Settings, connection: psycopg.Connection, task: Task, profile: PromptProfile, candidates: Sequence[Candidate]
) -> _Sampled:
    """Return the tokens of the requests about these subjects, and why there is none for the others."""
    prompt, tokens, reasons = prompt_of(profile), list[int](), list[str]()
    model: ModelTask = task.model
    for item in _items(settings, connection, task, profile, candidates):
        try:
            request = model.build_request(item, render_template(profile, item.inputs))
        except Exception as error:  # noqa: BLE001 - a task's own code may raise anything
            reasons.append(str(error))
            continue
        media = [Media(medium.path, medium.mime_type) for medium in request.media]
        line = request_line(item.subject_key, item_token("estimate", item.subject_key), request.text, media, prompt, 0)
        tokens.append(estimate_tokens(line))
    return _Sampled(tokens, reasons)


def _items(
    settings: Settings, connection: psycopg.Connection, task: Task, profile: PromptProfile, candidates: Sequence[Candidate]
) -> Iterator[WorkItem]:
    by_key = {candidate.subject_key: candidate for candidate in candidates}
    needed = sorted({task_id for candidate in candidates for task_id in candidate.depends_on})
    outputs: Mapping[UUID, Mapping[str, object]] = dict(connection.execute(_SQL["dependencies"], {"task_ids": needed}).fetchall())
    with connection.cursor(row_factory=dict_row) as cursor:
        for inputs in cursor.execute(task.spec.subjects.inputs, {"subject_keys": list(by_key)}).fetchall():
            candidate = by_key[inputs["subject_key"]]
            yield WorkItem(
                task_id=ids.task_id(task.task_key, task.spec.media_type, candidate.file_hash, profile.prompt_id),
                task_key=task.task_key,
                media_type=task.spec.media_type,
                file_id=candidate.file_id,
                file_hash=candidate.file_hash,
                subject_table=candidate.subject_table,
                subject_key=candidate.subject_key,
                attempt=1,
                path=input_path(settings, inputs),
                inputs=inputs,
                dependencies={task_id: outputs[task_id] for task_id in candidate.depends_on if task_id in outputs},
            )
