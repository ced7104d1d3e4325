"""Each process of the stack finds its own login and the secrets that it needs in its environment, and no others."""

import json
from pathlib import Path

import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.stack.databases import Databases
from medallion_defs.stack.environment import host_environment, location_environment, secret_paths
from medallion_defs.stack.logins import ROLES
from tests.conftest import ROOT

SECRETS = {
    "MEDALLION_GENAI__API_KEY": "s-key",
    "MEDALLION_ALERTS__WEBHOOK_URL": "http://127.0.0.1:1/s-hook",
    "MEDALLION_OPENLINEAGE__API_KEY": "s-lineage",
    "GEMINI_API_KEY": "s-gemini",
}
OWN = Databases(
    "postgresql://owner:s-owner@/m", "postgresql+psycopg2://d:s-dagster@/d", None, {r: f"postgresql://{r}:s-{r}@/m" for r in ROLES}
)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDALLION_ROOT", str(ROOT))
    return Settings(root=ROOT, data_dir=tmp_path)


def secrets_in(environment: dict[str, str]) -> set[str]:
    known = {*SECRETS.values(), "s-owner", "s-dagster", *(f"s-{role}" for role in ROLES)}
    text = json.dumps(environment)
    return {secret for secret in known if f"{secret}" in text}


def test_the_secrets_of_the_settings_are_known_by_their_type() -> None:
    assert {("genai", "api_key"), ("alerts", "webhook_url"), ("openlineage", "api_key"), ("logins", "gold")} <= secret_paths()


def test_bronze_alone_has_what_is_sent_out(settings: Settings) -> None:
    found = secrets_in(location_environment(settings, OWN, "bronze"))
    assert found == {*SECRETS.values(), "s-dagster", "s-medallion_bronze", "s-medallion_console"}


@pytest.mark.parametrize("location", ["silver", "gold"])
def test_the_other_locations_have_their_login_and_the_readers(settings: Settings, location: str) -> None:
    environment = location_environment(settings, OWN, location)
    assert secrets_in(environment) == {"s-dagster", f"s-medallion_{location}", "s-medallion_console"}
    assert environment["MEDALLION_GENAI__KEY_IS_ELSEWHERE"] == "true"


def test_the_daemon_and_the_web_server_have_dagsters_login_only(settings: Settings) -> None:
    assert secrets_in(host_environment(settings, OWN)) == {"s-dagster"}


def test_a_section_given_as_json_loses_its_secret_and_keeps_the_rest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDALLION_GENAI", json.dumps({"api_key": "s-key", "max_retries": 5}))
    monkeypatch.setenv("medallion_logins", json.dumps({"silver": "postgresql://x:s-medallion_silver@/m"}))
    environment = location_environment(settings, OWN, "gold")
    assert json.loads(environment["MEDALLION_GENAI"]) == {"max_retries": 5}
    assert "s-medallion_silver" not in json.dumps(environment)


def test_with_one_url_every_location_has_it_and_the_hosts_have_not(settings: Settings) -> None:
    one = Databases("postgresql://owner:s-owner@/m", OWN.dagster_url, None)
    assert location_environment(settings, one, "gold")["MEDALLION_DATABASE_URL"] == one.medallion_url
    assert "s-owner" not in json.dumps(host_environment(settings, one))
