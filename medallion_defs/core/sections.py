"""The sections of `medallion.yaml`: what each may say, its defaults and its limits.

Checked values only; where they are read from is `settings.py`. A section that one source or one pipeline needs does not stop the
others when it is wrong: it is noted, and said when it is asked for.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from medallion_defs.core.errors import ConfigurationError, describe_invalid
from medallion_defs.core.generation import GenerationParameters
from medallion_defs.core.timing import parse_duration

CONFIG_FILE = "medallion.yaml"
DAY_SECONDS = 86_400.0

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[ByteSize, Field(ge=1)]
Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
ParallelismKind = Literal["microbatch", "item"]
Year = Annotated[int, Field(ge=1600, le=2200)]
StateName = Annotated[str, Field(pattern=r"^[^./:\\][^/:\\]*$", max_length=100)]
Duration = Annotated[
    timedelta, BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value), Field(gt=timedelta(0))
]


def require_http_address(url: str, what: str) -> str:
    """Return the address, or raise ValueError. The message never shows it: it may hold a secret."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or any(character.isspace() for character in url):
        raise ValueError(f"{what} starts with http:// or https:// and names a host")
    return url


class Section(BaseModel):
    """A part of the configuration: unknown names are refused, and so are infinity and not-a-number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LandingSettings(Section):
    """How files are taken from `data/landing/{source}/`."""

    after: Literal["move", "leave"] = Field("move", description="What happens to a published file: moved to landing/.taken, or left.")
    done_marker: bool = Field(False, description="Take `x` only when `x.done` stands beside it; for writers that pause.")
    settle_seconds: float = Field(
        1.0, ge=0, le=DAY_SECONDS, description="Without a marker, a file is complete when size and mtime rest this long."
    )


class SourceRetention(Section):
    """Which items of a source may be removed from bronze. Nothing is set, and so nothing removed, by default."""

    max_age_days: Count | None = Field(None, description="Items fetched longer ago than this may go.")
    max_items: Count | None = Field(
        None, description="All but the newest so many items of the source may go; never an id's current revision."
    )
    keep_revisions: Count | None = Field(None, description="All but the newest so many revisions of an id may go.")
    even_if_traced: bool = Field(
        False,
        description="**Dangerous.** Also items that live rows were made of: those rows then trace to a hash and no bytes, and a rebuild "
        "from bronze loses them.",
    )


class RetentionSettings(Section):
    """How long what is not data is kept. Nothing is set, and so nothing removed, by default."""

    rejects_days: Count | None = Field(None, description="Rejected records older than this are deleted; the ledger keeps their number.")
    runs_days: Count | None = Field(
        None, description="Dagster's runs older than this are deleted, with their events and their names of files."
    )


class VerifySettings(Section):
    """How often all of bronze is hashed again, to find what a disk or a person has changed."""

    every_days: Count | None = Field(30, description="All of bronze is hashed once in so many days, a slice a night. Empty: never.")


class SourceSettings(Section):
    """How one source runs. Every field can be set under `sources.<name>` in `medallion.yaml`."""

    landing: LandingSettings = LandingSettings()
    retention: SourceRetention = SourceRetention()
    variant: str = Field("a", description="The variant of the transform that silver uses; a is `transform.py`.")
    discovery: Literal["auto", "scan", "index"] = Field(
        "auto", description="How new items are found; auto takes the index at 100,000 items."
    )
    parallelism: ParallelismKind = Field(
        "microbatch",
        description="How items become runs: many to a run, or each its own run and partition ([which](../parallelism.md)).",
    )
    keep_partitions: Count = Field(
        1_000, description="With parallelism item, the newest partitions that stay on the page; older ones go once their item is loaded."
    )
    max_items: Count = Field(500, description="Most items in one microbatch.")
    max_bytes: Bytes = Field(ByteSize(256 * 1024**2), description="Most bytes in one microbatch (one larger item still goes alone).")
    max_in_flight: Count = Field(2, description="Most microbatches of the source claimed at a time, those of backfills apart.")
    max_attempts: Count = Field(3, description="Tries per item and code version before it is dead.")
    retry_seconds: float = Field(30.0, ge=0, le=DAY_SECONDS, description="Wait before the first retry; doubles with each further one.")
    max_item_seconds: float = Field(
        600.0,
        gt=0,
        le=DAY_SECONDS,
        description="Longest reading of one item; past it its worker is ended, the item fails, and the others go on.",
    )
    max_rejected_share: Share = Field(0.5, description="An item with a larger share of rejected records is refused whole.")
    warn_rejected_share: Share = Field(0.01, description="The asset check warns above this share of rejected records.")
    warn_flagged_share: Share = Field(0.2, description="The asset check warns above this share of flagged rows.")
    expect_every: Duration | None = Field(
        None, description="A new item is expected at least this often (6h, 1d); the source is late without. Empty: no expectation."
    )
    max_lag: Duration = Field(
        timedelta(hours=1), description="The source is late when a file in landing, or an item for silver, waits longer than this."
    )


class InvalidSourceSettings(SourceSettings):
    """Stands for settings of a source that do not validate, so that the other sources go on. `reason` says what is wrong."""

    reason: str


def note_invalid_source(value: object, validate: ValidatorFunctionWrapHandler) -> SourceSettings:
    try:
        settings: SourceSettings = validate(value)
    except ValidationError as error:
        return InvalidSourceSettings(reason=describe_invalid(error))
    return settings


def require_valid_sources(sources: Mapping[str, SourceSettings]) -> None:
    wrong = [f"sources.{name}: {source.reason}" for name, source in sources.items() if isinstance(source, InvalidSourceSettings)]
    if wrong:
        raise ConfigurationError(f"{CONFIG_FILE} or the MEDALLION_ environment is not valid: {'; '.join(wrong)}")


class GoldSettings(Section):
    """How gold enrichments run."""

    max_rows: Count = Field(500_000, description="Most silver rows in one gold run.")
    retry_seconds: float = Field(
        30.0, ge=0, le=DAY_SECONDS, description="Wait after a run that failed; doubles with each further one, up to an hour."
    )
    max_unmatched_share: Share = Field(0.2, description="The asset check fails above this share of events whose company is unknown.")
    max_lag: Duration = Field(timedelta(hours=1), description="A gold table is late when a silver row waits longer than this for it.")


class TaskSettings(Section):
    """How one labeling task runs. Every field can be set under `tasks.<task_key>` in `medallion.yaml`."""

    max_attempts: Count = Field(3, description="Tries per input, profile and code version before the task is dead.")
    retry_seconds: float = Field(
        30.0, ge=0, le=DAY_SECONDS, description="Wait before the first retry; doubles with each further one, up to an hour."
    )
    retry_seconds_by_error: dict[str, Annotated[float, Field(ge=0, le=DAY_SECONDS)]] = Field(
        default_factory=dict, description="The same for errors of a type, by the type's name."
    )
    max_item_seconds: float = Field(
        3_600.0,
        gt=0,
        le=DAY_SECONDS,
        description="Longest work on one item, or longest silence of a processor that does not say at which item it is; past it the "
        "worker is ended, the item fails, and the others go on.",
    )
    lease_seconds: float = Field(
        60.0,
        ge=1,
        le=DAY_SECONDS,
        description="After this long without a sign of life of its worker, a batch may be taken over; a worker signs three times as often.",
    )
    promote: Literal["ask", "automatic"] = Field(
        "ask",
        description="What happens to a changed `prompt.json` that a model is asked with: it waits for `medallion prompts promote`, "
        "or becomes primary at the next plan, which asks about every input again, within the caps in dollars.",
    )
    model: str | None = Field(None, description="Ask this model instead of the profiles' own: another answer, so another prompt id.")
    generation: GenerationParameters = Field(
        default_factory=dict, description="Generation parameters (REST names) in the place of the profiles' own of the same name."
    )


class ModelPrice(Section):
    """What a model's tokens cost from a day on, in USD per million. A new price is a new row."""

    model: str = Field(description="The model's name as prompt profiles have it.")
    mode: Literal["batch", "online"] = Field(description="How it is asked: in a batch, or online one by one.")
    valid_from: date = Field(description="First day (UTC) on which the price holds.")
    above_tokens: int = Field(0, ge=0, description="The price of prompts at least this long.")
    input_usd: Usd = Field(description="Of prompts.")
    cached_input_usd: Usd = Field(description="Of the part of a prompt that the provider had cached.")
    output_usd: Usd = Field(description="Of answers and of thoughts.")


class GenaiSettings(Section):
    """How the model is asked."""

    api_key: SecretStr | None = Field(None, description="The key of the Gemini API; better set as MEDALLION_GENAI__API_KEY.")
    key_is_elsewhere: bool = Field(
        False, description="Whether the process that asks the model has the key, and this one has not; `medallion up` sets it."
    )
    base_url: str | None = Field(None, description="Another address than Google's, such as the emulator's; no key is needed for loopback.")
    api_version: str = Field("v1", description="Version of the API in the path of each call.")
    timeout_seconds: float = Field(60.0, gt=0, le=3_600, description="Longest wait for one HTTP call.")
    max_retries: int = Field(3, ge=0, description="Failed answers of a record before it is dead.")
    max_batch_requests: Count = Field(1_000, description="Most requests in one batch.")
    max_batch_bytes: Bytes = Field(ByteSize(100 * 1024**2), description="Most bytes in one batch's request file.")
    online_requests: int = Field(0, ge=0, description="Batches of at most this many requests are asked one by one, at the full price.")
    inline_media_bytes: ByteSize = Field(ByteSize(1024**2), description="Larger media are uploaded instead of sent within the request.")
    online_workers: Count = Field(8, description="Online calls under way at a time.")
    adopt_seconds: float = Field(
        300.0, ge=0, le=DAY_SECONDS, description="How long a job that may or may not exist is looked for before another is made."
    )
    deadline_hours: float = Field(
        30.0, gt=0, le=8_760, description="A batch that has not ended by then is cancelled and its records are asked again."
    )
    poll_seconds: float = Field(30.0, ge=0, le=DAY_SECONDS, description="Wait between two looks at the batches under way.")
    max_active_batches: Count = Field(20, description="Most batches at the provider at a time.")
    requests_per_minute: Count = Field(60, description="Most HTTP calls a minute, all processes together.")
    tokens_per_minute: Count = Field(1_000_000, description="Most prompt tokens of online calls a minute.")
    max_enqueued_tokens: Count = Field(3_000_000, description="Most prompt tokens in unfinished batches of one model.")
    max_usd_per_day: Usd = Field(Decimal(10), description="Nothing more is asked on a day once this much is spent or reserved.")
    max_usd_per_task: dict[str, Usd] = Field(default_factory=dict, description="The same for one task, by task key.")
    prices: list[ModelPrice] = Field(default_factory=list, description="USD per million tokens, by model, mode and day.")

    @field_validator("api_key")
    @classmethod
    def _blank_is_none(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key is not None and key.get_secret_value().strip() else None

    @field_validator("base_url")
    @classmethod
    def _require_address(cls, url: str | None) -> str | None:
        return None if url is None else require_http_address(url, "the API's address")

    @field_validator("prices")
    @classmethod
    def _require_one_price_each(cls, prices: list[ModelPrice]) -> list[ModelPrice]:
        rows = Counter((p.model, p.mode, p.valid_from, p.above_tokens) for p in prices)
        for (model, mode, day, above), count in rows.items():
            if count > 1:
                tier = f", above {above} tokens" if above else ""
                raise ValueError(f"{count} prices for {model}, {mode}, from {day}{tier}; keep one")
        return prices

    @property
    def names_emulator(self) -> bool:
        """Whether the address is one on loopback, which nobody names but for the emulator."""
        return self.base_url is not None and urlsplit(self.base_url).hostname in ("127.0.0.1", "localhost", "::1")

    @property
    def is_reachable(self) -> bool:
        """Whether there is a model to ask: a key, here or where the model is asked, or an address of one's own."""
        return self.api_key is not None or self.base_url is not None or self.key_is_elsewhere


class CurricularSettings(Section):
    """Where the pages of curricula are, and which of them are wanted. Without this section the source `curricular_pages` is off."""

    labels_dir: Path = Field(
        Path("dataset/label_to_curricular"),
        description="Labels, as {state}/{school}/{year}/{page_num}.json. Relative paths start at `root`.",
    )
    images_dir: Path = Field(Path("dataset/images"), description="Page images, as {state}/{school}/{year}/{page_num}.{png,jpg,jpeg,webp}.")
    output_dir: Path = Field(
        Path("dataset/output_results"), description="Success markers go here, as {state}/{school}/{year}/{page_num}.json."
    )
    states: frozenset[StateName] | None = Field(
        None, min_length=1, description="Only these states, spelled like their folders. Empty: all."
    )
    from_year: Year | None = Field(None, description="Only this year and later ones.")
    to_year: Year | None = Field(None, description="Only this year and earlier ones.")

    @model_validator(mode="after")
    def _require_sane(self) -> Self:
        if self.from_year is not None and self.to_year is not None and self.from_year > self.to_year:
            raise ValueError(f"from_year {self.from_year} is after to_year {self.to_year}")
        return self

    def states_without_folder(self) -> list[str]:
        """Return the states that are asked for and have no folder of labels: a name that is spelled in another way, often."""
        return sorted(state for state in self.states or () if not (self.labels_dir / state).is_dir())

    def below(self, root: Path) -> Self:
        """Return the same with absolute folders, links followed: relative ones start at `root`.

        Raises:
            ConfigurationError: they are not three folders. Only so can that be seen: `a/../b` is `b`, and a link is its target.
        """
        folders = {name: (root / getattr(self, name)).resolve() for name in ("labels_dir", "images_dir", "output_dir")}
        paths = list(folders.values())
        if any(one == other or one in other.parents for one in paths for other in paths if one is not other):
            named = ", ".join(f"{name} is {path}" for name, path in folders.items())
            raise invalid_pages(f"labels_dir, images_dir and output_dir must be three folders, none of them within another; {named}")
        return self.model_copy(update=folders)


class InvalidCurricularSettings(CurricularSettings):
    """Stands for a section `curricular` that does not validate, so that the rest goes on. `reason` says what is wrong."""

    reason: str


def note_invalid_pages(value: object, validate: ValidatorFunctionWrapHandler) -> CurricularSettings | None:
    try:
        settings: CurricularSettings | None = validate(value)
    except ValidationError as error:
        return InvalidCurricularSettings(reason=describe_invalid(error))
    return settings


def invalid_pages(reason: str) -> ConfigurationError:
    return ConfigurationError(f"{CONFIG_FILE} or the MEDALLION_ environment is not valid: curricular: {reason}")


def missing_folders(pages: CurricularSettings) -> str:
    folders = {"labels_dir": pages.labels_dir, "images_dir": pages.images_dir}
    return "; ".join(f"{name}: there is no folder {folder}" for name, folder in folders.items() if not folder.is_dir())


class AlertSettings(Section):
    """Where to say that something is late or failed. Nothing is sent without `webhook_url`."""

    webhook_url: SecretStr | None = Field(
        None, description="Slack-compatible webhook, http(s)://…; a secret, best in MEDALLION_ALERTS__WEBHOOK_URL. Empty: no posts."
    )
    ui_url: HttpUrl | None = Field(None, description="Address of the Dagster page as people reach it; posts then link to runs.")
    min_interval: Duration = Field(timedelta(hours=1), description="Wait between two posts that the same thing is late or fails.")

    @field_validator("webhook_url")
    @classmethod
    def _require_http(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            require_http_address(url.get_secret_value(), "a webhook's address")
        return url


class OpenLineageSettings(Section):
    """Where OpenLineage events of the silver and gold runs go. Off without `url` and `file`."""

    url: HttpUrl | None = Field(
        None, description="Each event is posted to this http(s) address, such as `http://host:5000/api/v1/lineage`."
    )
    file: Path | None = Field(None, description="Instead of `url`: each event is a line of this file; a relative path starts at `root`.")
    api_key: SecretStr | None = Field(None, description="Sent to `url` as a bearer token; best in MEDALLION_OPENLINEAGE__API_KEY.")
    timeout_seconds: float = Field(5.0, gt=0, le=30, description="How long to wait for one answer of `url`.")
    namespace: str = Field("medallion", min_length=1, description="Namespace of the jobs.")

    @model_validator(mode="after")
    def _require_one_target(self) -> Self:
        if self.url is not None and self.file is not None:
            raise ValueError("events go to url or to file; set one of them")
        return self
