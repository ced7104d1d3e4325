"""A page of another site, in a real browser, changes nothing and reads nothing of the running web server."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from tests.browser import REBOUND, SECONDS, Browser, text_of, wait_for
from tests.integration.web.web_pages import ForeignSite, WebServer, foreign_site, running_webserver

MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "%s", limit: 1) }'
KNOWN = "page.example"

ATTACKS = {
    "fetch": "await fetch(target + '/graphql', {method: 'POST', headers: {'Content-Type': 'application/json'}, body});",
    "fetch without a question before it": "await fetch(target + '/graphql', {method: 'POST', mode: 'no-cors', "
    "headers: {'Content-Type': 'text/plain; application/json'}, body});",
    "fetch by GET": "await fetch(target + '/graphql?query=' + encodeURIComponent(query), {mode: 'no-cors'});",
    "image": "const i = new Image(); const done = new Promise(r => i.onload = i.onerror = r); "
    "i.src = target + '/graphql?query=' + encodeURIComponent(query); await done;",
    "websocket": "const s = new WebSocket(target.replace('http', 'ws') + '/graphql', 'graphql-ws'); let opened = false; "
    "await new Promise(r => { s.onclose = s.onerror = r; s.onopen = () => { opened = true; "
    "s.send(JSON.stringify({type: 'start', id: '1', payload: {query}})); setTimeout(r, 2000); }; }); "
    "if (!opened) throw new Error('closed');",
    "report": "await fetch(target + '/report_asset_materialization/planted', {method: 'POST', mode: 'no-cors', body: '{}'});",
}
PAGE = """<html><body>waits<script>
const target = %s, query = %s, body = JSON.stringify({query});
(async () => { %s })().then(() => document.body.append(' | done'), error => document.body.append(' | done: ' + error));
</script></body></html>"""
FORM = """<html><body><form method="post" enctype="%s" action="%s">
<input name='{"query": %s, "x": "' value='"}'></form><script>document.forms[0].submit()</script></body></html>"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with running_webserver(tmp_path_factory.mktemp("dagster"), hosts=(KNOWN,)) as server:
        yield server


@pytest.fixture(scope="module")
def site() -> Iterator[ForeignSite]:
    with foreign_site() as site:
        yield site


def request(server: WebServer, path: str, body: bytes | None = None, **headers: str) -> int:
    """Ask as a program would; return the status."""
    sent = urllib.request.Request(server.url + path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(sent, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def mutation(key: str) -> bytes:
    return json.dumps({"query": MUTATION % key}).encode()


def attack(browser: Browser, site: ForeignSite, kind: str, target: str, key: str, host: str = "127.0.0.1") -> str:
    """Let a page of the foreign site do its worst; return what it says of it."""
    site.pages["/attack"] = PAGE % (json.dumps(target), json.dumps(MUTATION % key), ATTACKS[kind])
    browser.get(f"http://{host}:{site.port}/attack")
    return wait_for(browser, f"the attack by {kind}", lambda page: "done" in (shown := text_of(page)) and shown)


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_page_on_another_port_changes_nothing(server: WebServer, site: ForeignSite, browser: Browser, kind: str) -> None:
    key = f"foreign {kind}"
    said = [attack(browser, site, kind, target, key) for target in (server.url, f"http://localhost:{server.port}")]
    assert kind != "websocket" or all("closed" in each for each in said)
    assert key not in server.limits()
    assert server.assets() == []


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_page_under_a_rebound_name_changes_nothing(server: WebServer, site: ForeignSite, browser: Browser, kind: str) -> None:
    """The browser takes the foreign name for 127.0.0.1 and believes that it talks to the page's own site."""
    key = f"rebound {kind}"
    said = attack(browser, site, kind, f"http://{REBOUND}:{server.port}", key, host=REBOUND)
    assert kind != "websocket" or "closed" in said
    assert key not in server.limits()
    assert server.assets() == []
    browser.get(f"http://{REBOUND}:{server.port}/")
    assert "web.hosts" in text_of(browser)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("in_address", [False, True])
def test_a_form_of_a_foreign_page_changes_nothing(
    server: WebServer, site: ForeignSite, browser: Browser, kind: str, in_address: bool
) -> None:
    key = f"form {kind} {in_address}"
    query = "?" + urllib.parse.urlencode({"query": MUTATION % key}) if in_address else ""
    site.pages["/form"] = FORM % (kind, f"{server.url}/graphql{query}", json.dumps(MUTATION % key).replace("'", "&#39;"))
    browser.get(f"http://127.0.0.1:{site.port}/form")
    wait_for(browser, "the answer to the form", lambda page: "may not use this web server" in text_of(page))
    assert key not in server.limits()


def test_a_link_with_a_mutation_changes_nothing_and_a_link_to_the_page_opens_it(
    server: WebServer, site: ForeignSite, browser: Browser
) -> None:
    for path in ("/graphql?" + urllib.parse.urlencode({"query": MUTATION % "link"}), "/runs"):
        site.pages["/link"] = f"<html><body><a id=a href='{server.url}{path.replace(chr(39), '%27')}'>go</a></body></html>"
        browser.get(f"http://127.0.0.1:{site.port}/link")
        browser.find_element("id", "a").click()
        wait_for(browser, path, lambda page: page.current_url.startswith(server.url))
    assert "link" not in server.limits()
    wait_for(browser, "Dagster's page", lambda page: "Runs" in text_of(page))


def test_the_page_is_not_shown_in_a_frame(server: WebServer, site: ForeignSite, browser: Browser) -> None:
    site.pages["/frame"] = f"<html><body><iframe id=f src='{server.url}/runs'></iframe></body></html>"
    browser.get(f"http://127.0.0.1:{site.port}/frame")
    browser.switch_to.frame("f")
    try:
        assert "Runs" not in text_of(browser)
    finally:
        browser.switch_to.default_content()


def test_the_page_itself_may_do_what_a_person_asks_of_it(server: WebServer, browser: Browser) -> None:
    """The control: the same requests, made by the web server's own page, are let in."""
    script = PAGE.split("<script>")[1].split("</script>")[0]
    for kind in ("fetch", "websocket"):
        browser.get(f"{server.url}/graphql")  # the editor: a page of this origin
        browser.execute_script(script % (json.dumps(server.url), json.dumps(MUTATION % "own page"), ATTACKS[kind]))
        shown = wait_for(browser, kind, lambda page: "done" in (text := text_of(page)) and text)
        assert "closed" not in shown
    assert "own page" in server.limits()


def test_programs_of_this_machine_are_let_in(server: WebServer) -> None:
    assert request(server, "/graphql", mutation("program"), Content_Type="application/json") == 200
    assert "program" in server.limits()
    assert request(server, "/server_info") == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": KNOWN}, 200),
        ({"Host": f"{KNOWN}:8443", "Origin": f"https://{KNOWN}:8443"}, 200),
        ({"Origin": f"https://{KNOWN}"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:3000"}, 200),
        ({"Host": "page.example.evil.test"}, 403),
        ({"Host": f"{KNOWN}@evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
def test_who_is_let_in(server: WebServer, headers: dict[str, str], status: int) -> None:
    assert request(server, "/server_info", **headers) == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_a_mutation_in_the_address_is_refused(server: WebServer, method: str) -> None:
    path = "/graphql?" + urllib.parse.urlencode({"query": MUTATION % method})
    sent = urllib.request.Request(server.url + path, method=method)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(sent, timeout=SECONDS)
    refused.value.close()
    assert refused.value.code == 405
    assert request(server, path, b"", Content_Type="text/plain") == 415
    assert method not in server.limits()
