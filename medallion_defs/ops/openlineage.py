"""What an OpenLineage event of a silver or gold run says (spec 2-0-2), built from plain facts. Pure; `bronze/posting/openlineage.py` sends.

Not the official client: its events are the same few objects, and its HTTP library and its own way of sending would come along.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from psycopg.conninfo import conninfo_to_dict

from medallion_defs.core.ids import tagged_uuid

PRODUCER = "urn:medallion:medallion-defs"
_SPEC = "https://openlineage.io/spec"

Facets = dict[str, dict[str, Any]]
EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]
ColumnSources = Mapping[str, Sequence[tuple[str, str]]]


class Dataset(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """An input or output dataset."""

    namespace: str
    name: str
    facets: Facets = {}
    input_facets: Facets = {}
    output_facets: Facets = {}


class Run(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    run_id: str
    facets: Facets = {}


class Job(msgspec.Struct, omit_defaults=True, frozen=True):
    namespace: str
    name: str
    facets: Facets = {}


class RunEvent(msgspec.Struct, rename="camel", frozen=True):
    """One event as it is sent."""

    event_time: datetime
    event_type: EventType
    run: Run
    job: Job
    inputs: tuple[Dataset, ...]
    outputs: tuple[Dataset, ...]
    producer: str = PRODUCER
    schema_url: str = msgspec.field(default=f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent", name="schemaURL")


class Counts(NamedTuple):
    """What a run read of bronze and wrote; None where its materialization does not say."""

    rows_written: int | None = None
    rows_read: int | None = None
    items: int | None = None
    bytes: int | None = None


class Work(msgspec.Struct, frozen=True):
    """One table of a run.

    Attributes:
        layer, name: the asset key: `silver`, `driver_events`.
        is_done: whether it was materialized.
        counts: of this run.
        columns: for a gold table, by column, the silver tables and columns that it comes from.
    """

    layer: str
    name: str
    is_done: bool = False
    counts: Counts = Counts()
    columns: ColumnSources = {}

    @property
    def key(self) -> str:
        return f"{self.layer}/{self.name}"


class Change(NamedTuple):
    """A run that started or ended. `error`: why it failed, for a person."""

    event_type: EventType
    at: datetime
    run_id: str
    job_name: str
    error: str | None = None


class Column(NamedTuple):
    """A column of a table as the database describes it."""

    name: str
    type: str
    description: str | None


class Names(NamedTuple):
    """How this installation names jobs and datasets.

    Attributes:
        jobs: the namespace of jobs.
        postgres: the namespace of tables, `postgres://host:port`.
        database: of the tables.
        bronze: absolute path of the bronze root.
    """

    jobs: str
    postgres: str
    database: str
    bronze: str

    @classmethod
    def of(cls, jobs: str, database_url: str, bronze: str) -> "Names":
        """Name by the address of the database, without login and password; a socket on this machine is `localhost`."""
        address = conninfo_to_dict(database_url)
        host = str(address.get("host") or "localhost")
        host = "localhost" if host.startswith("/") else host
        return cls(jobs, f"postgres://{host}:{address.get('port') or 5432}", str(address.get("dbname") or ""), bronze)


def build_events(change: Change, works: Sequence[Work], names: Names, schemas: Mapping[str, Sequence[Column]]) -> Iterator[RunEvent]:
    """Yield one event per table of the run.

    A run that ends has done the tables that it materialized, whatever became of the others.

    Args:
        schemas: the columns of each table, by `silver.driver_events`.
    """
    for work in works:
        event_type: EventType = "COMPLETE" if work.is_done and change.event_type in ("FAIL", "ABORT") else change.event_type
        facets = _error(change.error) if event_type == "FAIL" and change.error else {}
        run = Run(change.run_id, facets)
        if len(works) > 1:
            # A run has one job in OpenLineage: where Dagster makes several tables in one run, each gets a run below it.
            run = Run(str(tagged_uuid("openlineage-run", change.run_id, work.key)), {**facets, **_parent(change, names)})
        counts = work.counts if event_type != "START" else Counts()
        output = _table(work.layer, work.name, names, schemas)
        statistics = _statistics("OutputStatistics", "1-0-2", "Output", rowCount=counts.rows_written)
        described = msgspec.structs.replace(output, facets={**output.facets, **_lineage(work, names)}, output_facets=statistics)
        job = Job(names.jobs, work.key, _facet("jobType", "JobTypeJobFacet", "2-0-4", processingType="BATCH", integration="DAGSTER"))
        yield RunEvent(change.at, event_type, run, job, tuple(_inputs(work, counts, names, schemas)), (described,))


def _inputs(work: Work, counts: Counts, names: Names, schemas: Mapping[str, Sequence[Column]]) -> Iterator[Dataset]:
    if work.layer == "silver":
        uri = f"file://{names.bronze}/{work.name}"
        statistics = _statistics("InputStatistics", "1-0-0", "Input", rowCount=counts.rows_read, size=counts.bytes, fileCount=counts.items)
        source = _facet("dataSource", "DatasourceDatasetFacet", "1-0-1", name="bronze", uri=uri)
        yield Dataset("file", f"{names.bronze}/{work.name}", source, input_facets=statistics)
    for table in dict.fromkeys(table for sources in work.columns.values() for table, _ in sources):
        yield _table("silver", table, names, schemas)


def _table(schema: str, name: str, names: Names, schemas: Mapping[str, Sequence[Column]]) -> Dataset:
    fields = [
        {"name": column.name, "type": column.type, "ordinal_position": position}
        | ({"description": column.description} if column.description else {})
        for position, column in enumerate(schemas.get(f"{schema}.{name}", ()), 1)
    ]
    facets = _facet("dataSource", "DatasourceDatasetFacet", "1-0-1", name=names.postgres, uri=f"{names.postgres}/{names.database}")
    if fields:
        facets |= _facet("schema", "SchemaDatasetFacet", "1-2-0", fields=fields)
    return Dataset(names.postgres, _table_name(schema, name, names), facets)


def _table_name(schema: str, name: str, names: Names) -> str:
    return f"{names.database}.{schema}.{name}"


def _lineage(work: Work, names: Names) -> Facets:
    fields = {
        column: {"inputFields": [_input_field(table, field, names) for table, field in sources]}
        for column, sources in work.columns.items()
        if sources
    }
    return _facet("columnLineage", "ColumnLineageDatasetFacet", "1-2-0", fields=fields) if fields else {}


def _input_field(table: str, field: str, names: Names) -> dict[str, str]:
    return {"namespace": names.postgres, "name": _table_name("silver", table, names), "field": field}


def _statistics(facet: str, version: str, side: str, /, **values: int | None) -> Facets:
    known = {name: value for name, value in values.items() if value is not None}
    return _facet(facet[0].lower() + facet[1:], f"{facet}{side}DatasetFacet", version, **known) if known else {}


def _error(message: str) -> Facets:
    return _facet("errorMessage", "ErrorMessageRunFacet", "1-0-1", message=message, programmingLanguage="PYTHON")


def _parent(change: Change, names: Names) -> Facets:
    job = {"namespace": names.jobs, "name": change.job_name}
    return _facet("parent", "ParentRunFacet", "1-2-0", run={"runId": change.run_id}, job=job)


def _facet(key: str, definition: str, version: str, /, **values: object) -> Facets:
    return {key: {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{version}/{definition}.json#/$defs/{definition}", **values}}
