"""What assets of every layer have in common as Dagster sees them: a run that did nothing leaves no trace, a failure
begins with its sentence, and a data version changes only with the data.

A materialization of a run that did nothing would replace the manifest on the page, dent every plot, and make what is
downstream "Unsynced".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from medallion_defs.core.errors import ConfigurationError, MedallionError, TransientError

_VERSION = "dagster/data_version"
_INPUT_VERSION = "dagster/input_data_version"
_NEVER = "INITIAL"  # what Dagster notes of an input that was never materialized


def skippable_asset(
    spec: dg.AssetSpec,
    check_specs: Sequence[dg.AssetCheckSpec],
    *,
    pool: str | None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return a decorator for a generator: an asset that may yield nothing, and then answers none of its checks either.

    `dg.asset(output_required=False)` does the first only. Resources: `settings`.
    """
    node, checks = spec.key.to_python_identifier(), {check.get_python_identifier(): check for check in check_specs}
    inputs = {dep.asset_key.to_python_identifier(): dep.asset_key for dep in spec.deps}

    def build(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        op = dg.op(
            name=node,
            ins={name: dg.In(dg.Nothing) for name in inputs},
            out={"result": dg.Out(dg.Nothing, is_required=False)} | dict.fromkeys(checks, dg.Out(None, is_required=False)),
            required_resource_keys={"settings"},
            pool=pool,
            description=spec.description,
        )(compute)
        return dg.AssetsDefinition(
            keys_by_input_name=inputs,
            keys_by_output_name={"result": spec.key},
            node_def=op,
            check_specs_by_output_name=checks,
            specs=[spec],
        )

    return build


@contextmanager
def plain_failures() -> Iterator[None]:
    """Show an error that Medallion can explain as its sentence; Dagster would put it below a stack of its own.

    What the same input gives again, Dagster does not retry.
    """
    try:
        yield
    except MedallionError as error:
        raise dg.Failure(str(error), allow_retries=isinstance(error, TransientError)) from error


def data_version(instance: dg.DagsterInstance, run_id: str, key: dg.AssetKey, *, is_changed: bool) -> dg.DataVersion:
    """Return the version of the asset's data after this run: the run's id, or the one that it had when nothing changed."""
    had = _tags(instance, key).get(_VERSION)
    return dg.DataVersion(run_id if is_changed or had is None else had)


def is_synced(instance: dg.DagsterInstance, key: dg.AssetKey, deps: Sequence[dg.AssetKey]) -> bool:
    """Whether the asset's latest materialization, if any, saw the present data of all that it is made of.

    An input may say that it has changed after the asset has taken its rows. Then a run that finds nothing to do says so
    by a materialization, or the page would call the asset "Unsynced" for good.
    """
    seen = _tags(instance, key)
    return not seen or all(
        seen.get(f"{_INPUT_VERSION}/{dep.to_user_string()}", _NEVER) == _tags(instance, dep).get(_VERSION, _NEVER) for dep in deps
    )


def _tags(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, str]:
    event = instance.get_latest_materialization_event(key)
    return dict(event.asset_materialization.tags or {}) if event and event.asset_materialization else {}


def require_at_least(name: str, value: float | None, least: float) -> None:
    """Refuse a number of the launchpad that is too small, with a sentence; the launchpad itself knows types only.

    Raises:
        ConfigurationError: it is.
    """
    if value is not None and value < least:
        raise ConfigurationError(f"{name}: {value} is too small. Write {least} or more, or leave the field out.")
