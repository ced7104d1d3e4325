"""Names and errors that look like markup, on Dagster's own page: shown as they are, and nothing in them is fetched."""

from collections.abc import Iterator
from decimal import Decimal

import dagster as dg
import pytest
from selenium.webdriver.common.by import By

from medallion_defs.bronze.fetching.report import FetchReport, LeftFile, describe
from medallion_defs.core.markdown import escape
from medallion_defs.genai.report import BatchReport, RecordFailure, describe_report
from medallion_defs.ops.manifest import as_metadata
from tests.browser import Browser, text_of, wait_for
from tests.integration.web.web_pages import ForeignSite, WebServer, foreign_site, running_webserver


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with running_webserver(tmp_path_factory.mktemp("dagster")) as server:
        yield server


@pytest.fixture(scope="module")
def site() -> Iterator[ForeignSite]:
    with foreign_site() as site:
        yield site


def image(site: ForeignSite, name: str) -> str:
    return f"![x](http://127.0.0.1:{site.port}/{name})"


def report(server: WebServer, name: str, metadata: dict[str, dg.MetadataValue], description: str) -> None:  # type: ignore[type-arg]
    with dg.DagsterInstance.from_config(str(server.home)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(name, description=description, metadata=metadata))


def open_everything(browser: Browser, server: WebServer, name: str) -> str:
    """Open the asset's latest materialization and every Markdown entry of it; return all that was shown."""
    browser.get(f"{server.url}/assets/{name}?view=events")
    wait_for(browser, "the materialization", lambda page: "items_published" in text_of(page))
    shown = [text_of(browser)]
    for number in range(len(markdown_buttons(browser))):
        markdown_buttons(browser)[number].click()
        wait_for(browser, "the dialog", lambda page: page.find_elements(By.CSS_SELECTOR, ".dagster-markdown"))
        shown.append(text_of(browser))
        browser.find_element(By.XPATH, "//button[contains(., 'Close') or contains(., 'Done')]").click()
        wait_for(browser, "the dialog's end", lambda page: "Close" not in text_of(page))
    return "\n".join(shown)


def markdown_buttons(browser: Browser) -> list:  # type: ignore[type-arg]
    return browser.find_elements(By.XPATH, "//*[text()='[Show Markdown]']")


def test_an_image_in_a_name_or_an_error_is_not_fetched(server: WebServer, site: ForeignSite, browser: Browser) -> None:
    name = image(site, "leak")
    left = FetchReport()
    left.add_left(LeftFile(name, f"not read: <img src='http://127.0.0.1:{site.port}/leak-html'>"))
    failure = RecordFailure(record_key=name, error_type="JSON Decode Error", message=name, retry=1, is_dead=False)
    answers = BatchReport(
        batch_id="b1", task_key="page.curricular", model="m", mode="batch", total=1, success=0, failures=(failure,), max_retries=3,
        cost_usd=Decimal(0), foreign_keys=(name,), error=name,
    )  # fmt: skip
    metadata = {**describe(left), **as_metadata({"note": name}, batch_summary_report=describe_report(answers))}
    report(server, "planted", metadata, escape(name))
    shown = open_everything(browser, server, "planted")
    assert shown.count(f"](http://127.0.0.1:{site.port}/leak)") >= 3
    links = [link.get_attribute("href") or "" for link in browser.find_elements(By.TAG_NAME, "a")]
    assert not [link for link in links if str(site.port) in link]
    assert [path for path in site.requests if "leak" in path] == []


def test_the_same_image_is_fetched_where_nothing_escapes_it(server: WebServer, site: ForeignSite, browser: Browser) -> None:
    """The control: Dagster's page does fetch images of other sites."""
    report(server, "control", {"plain": dg.MetadataValue.md(image(site, "entry"))}, image(site, "description"))
    browser.get(f"{server.url}/assets/control?view=events")
    wait_for(browser, "the requests", lambda _: {"/entry", "/description"} <= set(site.requests))
