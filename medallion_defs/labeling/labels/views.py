"""One view per task in schema gold, `gold.label_<task>`: its labels with a typed column per field, one row per subject.

The views follow from the tasks in the code: `medallion migrate` (and with it `medallion up`) brings them in line, so a new task, or a
new field, needs no migration of its own. A subject is in the view while it has the bytes that were labeled: which subjects there are
is asked of the same query that plans the task.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any, cast

import psycopg
from psycopg import sql

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import TaskSpec

_SQL = load_queries("medallion_defs.labeling.labels", "views.sql")
_LOG = logging.getLogger(__name__)
_PREFIX = "label_"
_OWN_COLUMNS = ("subject_table", "subject_key", "file_id", "file_hash", "task_id", "prompt_id", "source", "updated_at")
_TYPES = {"string": "text", "integer": "bigint", "number": "double precision", "boolean": "boolean"}
_FORMATS = {"date": "date", "date-time": "timestamp with time zone", "uuid": "uuid"}


def view_name(task_key: str) -> str:
    """Return the name of a task's view in schema gold."""
    return f"{_PREFIX}{task_key.replace('.', '_')}"


def column_types(spec: TaskSpec) -> dict[str, str]:
    """Return the Postgres type of each top-level field of a task's output: `jsonb` for what has parts, `text[]` for lists of strings.

    Raises:
        ConfigurationError: a field has the name of a column that every view has.
    """
    schema = spec.output_model.model_json_schema(mode="serialization")
    if taken := sorted(set(_OWN_COLUMNS) & schema.get("properties", {}).keys()):
        raise ConfigurationError(
            f"Task {spec.task_key}: its output has a field {', '.join(taken)}, and so has gold.{view_name(spec.task_key)} "
            "for the label itself. Name the field otherwise."
        )
    return {name: _column_type(part, schema.get("$defs", {})) for name, part in schema.get("properties", {}).items()}


def refresh_views(connection: psycopg.Connection, specs: Iterable[TaskSpec], kept: Iterable[str] = ()) -> list[str]:
    """Bring the views in line with the tasks; return the names of those that were written or dropped. The caller commits.

    `kept`: views that stay as they are.

    A task whose subjects have no table yet, since the migration is still to be written, gets its view with that.

    Raises:
        TransientError: something was built on a view that has to change.
    """
    wanted = {view_name(spec.task_key): _definition(connection, spec) for spec in specs}
    existing: dict[str, str] = dict(connection.execute(_SQL["existing"]).fetchall())
    stale = [name for name, mark in existing.items() if name not in set(kept) and mark != _mark(wanted.get(name))]
    _drop(connection, stale)
    missing = [name for name in wanted if name not in existing or name in stale]
    made = [name for name in missing if _create(connection, name, wanted[name])]
    return sorted({*stale, *made})


def drop_views(connection: psycopg.Connection) -> None:
    """Drop the views, so that a migration may change the tables that they read. The caller commits.

    Raises:
        TransientError: something was built on one of them.
    """
    _drop(connection, [name for name, _ in connection.execute(_SQL["existing"]).fetchall()])


def _drop(connection: psycopg.Connection, names: Iterable[str]) -> None:
    for name in names:
        try:
            connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier("gold", name)))
        except psycopg.errors.DependentObjectsStillExist as error:
            built = error.diag.message_detail
            raise TransientError(
                f"gold.{name} has to change, and something is built on it: {built}. Drop that, then migrate again."
            ) from error


def _create(connection: psycopg.Connection, name: str, definition: str) -> bool:
    view = sql.Identifier("gold", name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE VIEW {} AS ").format(view) + sql.SQL(cast("Any", definition)))
            connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(_mark(definition))))
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        why = error.diag.message_primary
        _LOG.warning("gold.%s is not made: %s. It comes with the migration that adds what its task reads.", name, why)
        return False
    return True


def _definition(connection: psycopg.Connection, spec: TaskSpec) -> str:
    # A view has no parameters, so they are written into the subjects' query: from the start of the feed, and without a limit.
    subjects = psycopg.ClientCursor(connection).mogrify(spec.subjects.candidates, {"after": -1, "limit": None})
    fields = [_field(name, type_) for name, type_ in column_types(spec).items()]
    query = sql.SQL(_SQL["view"]).format(
        subjects=sql.SQL(cast("Any", subjects)),
        fields=sql.SQL("").join(sql.SQL(", ") + field for field in fields),
        task_key=sql.Literal(spec.task_key),
        media_type=sql.Literal(spec.media_type),
    )
    return query.as_string(connection)


def _field(name: str, type_: str) -> sql.Composable:
    query = {"jsonb": "jsonb_field", "text[]": "list_field"}.get(type_, "typed_field")
    return sql.SQL(_SQL[query]).format(
        key=sql.Literal(name), name=sql.Identifier(name), type=sql.SQL(cast("Any", type_)), type_name=sql.Literal(type_)
    )


def _mark(definition: str | None) -> str | None:
    """Return the comment by which a view is known as ours, and as this one."""
    return f"Labels; made by medallion migrate, {hashlib.sha256(definition.encode()).hexdigest()[:16]}" if definition else None


def _column_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if reference := schema.get("$ref"):
        return _column_type(definitions[str(reference).rsplit("/", 1)[-1]], definitions)
    if choices := [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]:
        types = {_column_type(part, definitions) for part in choices}
        return types.pop() if len(types) == 1 else "jsonb"
    if schema.get("type") == "array":
        return "text[]" if _column_type(schema.get("items", {}), definitions) == "text" else "jsonb"
    if schema.get("type") == "string":
        return _FORMATS.get(str(schema.get("format")), "text")
    return _TYPES.get(str(schema.get("type")), "jsonb")
