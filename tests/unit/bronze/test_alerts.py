"""What is posted: once when something begins, once when it is over, and never without bound; and how a post goes out."""

from datetime import UTC, datetime, timedelta

import pytest

from medallion_defs.bronze.posting.alerts import FailedRun, Post, Posted, decide_post, name_work
from medallion_defs.bronze.posting.webhook import WebhookError, post_text
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import AlertSettings
from medallion_defs.ops.lateness import Finding, Verdict
from tests.loopback import loopback_server

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
OPTIONS = AlertSettings()
LATE = Verdict("silver/weather", (Finding("silent", "weather: no new item for 2d"),), NOW)
WELL = Verdict("silver/weather", (), NOW)


def decide(*verdicts: Verdict, posted: Posted | None = None, at: datetime = NOW, failed: tuple[FailedRun, ...] = ()) -> Post:
    return decide_post(verdicts, failed, posted or Posted(), OPTIONS, at)


def failure(at: datetime, run_id: str = "r1", work: str = "silver/weather", error: str = "disk full") -> FailedRun:
    return FailedRun(run_id, work, error, at)


def test_late_is_posted_once_and_recovered_once() -> None:
    first = decide(LATE)
    assert first.lines == (":warning: weather: no new item for 2d",)
    again = decide(LATE, posted=first.posted, at=NOW + 5 * HOUR)
    assert again.lines == ()
    over = decide(WELL, posted=again.posted, at=NOW + 6 * HOUR)
    assert over.lines == (":white_check_mark: silver/weather is not silent any more, after 6h.",)
    assert decide(WELL, posted=over.posted, at=NOW + 7 * HOUR).lines == ()


def test_what_comes_and_goes_is_told_once_an_hour_at_most() -> None:
    posted, lines = Posted(), []
    for minute in range(0, 120, 2):
        post = decide(LATE if minute % 4 == 0 else WELL, posted=posted, at=NOW + minute * MINUTE)
        posted = post.posted
        lines += [line for line in post.lines if "weather" in line]
    assert [line.partition(" ")[0] for line in lines] == [":warning:", ":white_check_mark:"] * 2


def test_runs_that_fail_again_and_again_are_posted_once_an_hour_per_piece_of_work() -> None:
    posted, told = Posted(), []
    for minute in range(180):  # a failure each minute, seen by a tick each minute
        at = NOW + minute * MINUTE
        recent = tuple(failure(NOW + n * MINUTE, f"r{n}") for n in range(max(0, minute - 60), minute + 1))
        post = decide(posted=posted, at=at, failed=recent)
        posted = post.posted
        told += [minute for line in post.lines if line.startswith(":x:")]
    assert told == [0, 60, 120]


def test_failures_of_different_work_are_told_apart_with_the_last_error() -> None:
    post = decide(failed=(failure(NOW - MINUTE, "r1"), failure(NOW, "r2", error="out of memory"), failure(NOW, "r3", work="gold/x")))
    assert post.lines == (
        ":x: gold/x: run r3 failed. disk full",
        ":x: silver/weather: run r2 failed (2 runs within 1h; this is the last). out of memory",
    )


def test_a_run_is_a_link_where_the_page_has_an_address_and_an_error_cannot_call_the_channel() -> None:
    options = AlertSettings(ui_url="http://dagster.example:3000/")
    [line] = decide_post([], [failure(NOW, error="bad <!channel> & more")], Posted(), options, NOW).lines
    assert line == ":x: silver/weather: run <http://dagster.example:3000/runs/r1|r1> failed. bad &lt;!channel&gt; &amp; more"


def test_a_post_names_twenty_things_and_how_many_more_there_are() -> None:
    post = decide(failed=tuple(failure(NOW, f"r{n}", work=f"silver/s{n:02}") for n in range(25)))
    assert len(post.text.splitlines()) == 21
    assert "… and 5 more" in post.text


def test_a_layer_at_which_nobody_looks_is_told_once_this_sensor_has_been_awake_for_five_minutes() -> None:
    stale = [Verdict(f"{layer}/x", (), NOW - 3 * HOUR) for layer in ("bronze", "silver", "gold")]
    posted = Posted()
    told: list[tuple[int, str]] = []

    def tick(minute: int, *verdicts: Verdict) -> None:
        nonlocal posted
        post = decide(*verdicts, posted=posted, at=NOW + minute * MINUTE)
        posted = post.posted
        told.extend((minute, line.partition(":")[2].partition(" ")[2][:6]) for line in post.lines)

    for minute in range(12):  # Medallion was down for three hours; then bronze and gold look again, and silver does not load
        tick(minute, *[one if one.subject == "silver/x" else Verdict(one.subject, (), NOW + minute * MINUTE) for one in stale])
    assert [minute for minute, _ in told] == [5]
    for minute in range(60, 70):  # after a pause it still does not load: nothing new, and no false recovery
        tick(minute, *[one if one.subject == "silver/x" else Verdict(one.subject, (), NOW + minute * MINUTE) for one in stale])
    assert len(told) == 1
    tick(70, *[Verdict(one.subject, (), NOW + 70 * MINUTE) for one in stale])
    assert [minute for minute, _ in told] == [5, 70]


def test_the_memory_of_what_was_posted_does_not_grow() -> None:
    posted = decide(LATE, failed=(failure(NOW),)).posted
    later = decide(WELL, posted=decide(WELL, posted=posted, at=NOW + MINUTE).posted, at=NOW + 2 * HOUR).posted
    assert (later.findings, later.runs) == ({}, {})


@pytest.mark.parametrize(
    ("tag", "work"), [("silver/weather/2026-batch", "silver/weather"), ("gold/x/1-2-3-4", "gold/x"), (None, "the_job")]
)
def test_failures_are_told_together_whatever_the_batch(tag: str | None, work: str) -> None:
    assert name_work(tag, "the_job") == work


def test_a_post_is_slack_json_and_the_answer_comes_back() -> None:
    with loopback_server(200, b"ok") as server:
        assert post_text(f"{server.url}/hook", "three läte") == "200 ok"
    assert server.posts == [{"text": "three läte"}]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refused_post_says_the_answer_and_not_the_secret_address(status: int) -> None:
    with loopback_server(status, b"no_service") as server, pytest.raises(WebhookError) as caught:
        post_text(f"{server.url}/services/SECRET", "x")
    assert f"{status} no_service" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert len(server.posts) == 1  # a redirection is not followed


def test_a_server_that_is_not_there_is_an_error_that_can_pass() -> None:
    with loopback_server(200, b"") as server:
        url = server.url
    with pytest.raises(WebhookError, match=r"127\.0\.0\.1 did not take the post"):
        post_text(url, "x")


def test_only_web_addresses_are_posted_to() -> None:
    with pytest.raises(ConfigurationError):
        post_text("file:///tmp/x", "x")
