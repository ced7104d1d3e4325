"""What is private to Dagster may change with any release: no module of Medallion imports it, and one changes its web server."""

import re

from tests.conftest import ROOT

PRIVATE = re.compile(r"^\s*(?:from|import)\s+dagster\w*(?:\.\w+)*\._|^\s*from\s+dagster\w*(?:\.\w+)*\s+import\s+.*\b_\w", re.MULTILINE)
WEBSERVER = re.compile(r"^\s*(?:from|import)\s+dagster_webserver", re.MULTILINE)


def users(pattern: re.Pattern[str]) -> set[str]:
    files = (ROOT / "medallion_defs").rglob("*.py")
    return {str(path.relative_to(ROOT)) for path in files if pattern.search(path.read_text(encoding="utf-8"))}


def test_nothing_private_to_dagster_is_imported() -> None:
    assert users(PRIVATE) == set()


def test_one_module_changes_dagsters_web_server() -> None:
    assert users(WEBSERVER) == {"medallion_defs/stack/webserver.py"}


def test_the_name_that_is_changed_is_the_one_that_dagster_uses() -> None:
    """`dagster-webserver` makes its server of this name; `medallion up` asks the running server as well."""
    from dagster_webserver import app, cli

    assert "DagsterWebserver" in app.create_app_from_workspace_process_context.__code__.co_names
    assert cli.create_app_from_workspace_process_context is app.create_app_from_workspace_process_context
