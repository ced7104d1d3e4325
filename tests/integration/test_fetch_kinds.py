"""Every kind of fetch stands behind one door: the command, the asset's check and the folders ask the kind, not the source's name."""

import psycopg

from medallion_defs.bronze.assets import landing_names, load_bronze_contents
from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from tests.integration.commands import call

TREE = "curricular_pages"


def test_only_sources_that_files_are_dropped_for_have_a_landing_folder() -> None:
    assert TREE not in landing_names()
    assert {"driver_events", "companies"} <= set(landing_names())


def test_a_file_dropped_for_a_source_of_another_kind_is_not_published_into_it(project: Settings, db: psycopg.Connection) -> None:
    stray = project.landing_path / TREE / "fleet.csv"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"a,b\n1,2\n")
    result = call("fetch", TREE)
    assert result.exit_code == 1
    assert "no section 'curricular'" in str(result.output or result.exception)
    assert stray.exists()
    assert not (project.bronze_path / TREE).exists()


def test_each_source_answers_whether_it_is_on_time(project: Settings) -> None:
    for content in load_bronze_contents():
        look = content.fetch.look(project, content.source.name, clock.now())
        assert look.verdict.subject == f"bronze/{content.source.name}"
        assert look.verdict.findings == ()


def test_pages_that_wait_for_a_fetch_that_does_not_come_are_late(project: Settings) -> None:
    [content] = [content for content in load_bronze_contents() if content.source.name == TREE]
    waiting = project.landing_path / ".tree" / f"{TREE}.waiting"
    waiting.parent.mkdir(parents=True)
    waiting.touch()
    late = content.fetch.look(project, TREE, clock.now() + 2 * project.source(TREE).max_lag)
    assert [finding.kind for finding in late.verdict.findings] == ["behind"]
    assert "tree_curricular_pages" in late.verdict.findings[0].sentence
