"""What each process of the stack finds in its environment: its own login, and the secrets that it needs.

The model's key, the webhook and OpenLineage's key go to bronze alone, the only location that reaches out. The daemon and the
web server work on Dagster's database and get no login of Medallion's.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from medallion_defs.core.access_settings import LoginSettings
from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.stack.child import MARK
from medallion_defs.stack.dagster_home import home_folder
from medallion_defs.stack.databases import Databases

_PREFIX = "MEDALLION_"
_OUTGOING = "bronze"
_FOREIGN_SECRETS = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""Names under which other programs know the model's key; a fetcher may need one."""


def stack_environment(settings: Settings, databases: Databases) -> dict[str, str]:
    """Return the environment of a process that works beside the stack with all rights, as a person's does."""
    return {
        **process_environment(),
        MARK: str(settings.data_path),
        "MEDALLION_ROOT": str(settings.root),
        "MEDALLION_DATA_DIR": str(settings.data_path),
        "MEDALLION_DATABASE_URL": databases.medallion_url,
        "DAGSTER_PG_URL": databases.dagster_url,
        "DAGSTER_HOME": str(home_folder(settings.data_path)),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # A sensor that scans a large folder on a busy machine may pass Dagster's 60 s; the daemon's setting counts.
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "180",
        "PYTHONUNBUFFERED": "1",
    }


def host_environment(settings: Settings, databases: Databases) -> dict[str, str]:
    """Return the environment of a process that runs none of our code on data: the daemon, the web server."""
    environment = _without(stack_environment(settings, databases), secret_paths(), _FOREIGN_SECRETS)
    del environment["MEDALLION_DATABASE_URL"]
    return environment


def location_environment(settings: Settings, databases: Databases, location: str) -> dict[str, str]:
    """Return the environment of the code server of a location, and so of its runs."""
    is_outgoing = location == _OUTGOING
    everything = stack_environment(settings, databases)
    environment = _without(everything, _LOGINS) if is_outgoing else _without(everything, secret_paths(), _FOREIGN_SECRETS)
    environment["MEDALLION_DATABASE_URL"] = databases.logins.get(f"medallion_{location}", databases.medallion_url)
    for role in (location, "console"):
        if url := databases.logins.get(f"medallion_{role}"):
            environment[f"{_PREFIX}LOGINS__{role.upper()}"] = url
    if not is_outgoing and settings.genai.api_key is not None:
        environment["MEDALLION_GENAI__KEY_IS_ELSEWHERE"] = "true"
    return environment


def secret_paths() -> set[tuple[str, ...]]:
    """Return where the settings hold secrets, such as `("genai", "api_key")`."""
    return {path for name, field in Settings.model_fields.items() for path in _secrets_in(field.annotation, name)}


def _secrets_in(annotation: Any, *above: str) -> Iterator[tuple[str, ...]]:
    if annotation is SecretStr:
        yield above
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from _secrets_in(field.annotation, *above, name)
    else:
        for part in get_args(annotation):
            yield from _secrets_in(part, *above)


_LOGINS = set(_secrets_in(LoginSettings, "logins"))


def _without(environment: Mapping[str, str], paths: Iterable[tuple[str, ...]], names: Sequence[str] = ()) -> dict[str, str]:
    """Return `environment` without `names` and without these settings, also where a section is given as JSON."""
    left = {name: value for name, value in environment.items() if name.upper() not in names}
    for section, *rest in paths:
        whole = f"{_PREFIX}{section}".upper()
        hidden = {"__".join([whole, *(part.upper() for part in rest[:depth])]) for depth in range(1, len(rest) + 1)}
        left = {name: value for name, value in left.items() if name.upper() not in hidden}
        for name in [name for name in left if name.upper() == whole]:
            left[name] = _without_key(left[name], rest[0])
    return left


def _without_key(text: str, key: str) -> str:
    try:
        section = json.loads(text)
    except ValueError:  # what reads it says so
        return "{}"
    return json.dumps({name: value for name, value in section.items() if name != key}) if isinstance(section, dict) else "{}"
