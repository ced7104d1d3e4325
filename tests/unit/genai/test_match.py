"""Invariant 10: shuffled, missing, duplicated, foreign and swapped answers are all detected."""

import json
from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.genai.answers import Problem, decode_line, read_line
from medallion_defs.genai.match import Matched, Matching, find_repeated

USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 2}
TOKENS = {f"k{number}": f"{number:08x}" for number in range(6)}


def line(key: str, token: str, **more: object) -> bytes:
    text = json.dumps({"value": token, "item_token": token, **more})
    candidate = {"finishReason": "STOP", "content": {"parts": [{"text": text}]}}
    return json.dumps({"key": key, "response": {"candidates": [candidate], "usageMetadata": USAGE}}).encode()


def read(lines: Sequence[bytes], tokens: Mapping[str, str] = TOKENS) -> tuple[Matching, dict[str, Matched | Problem]]:
    matching = Matching(tokens, find_repeated(lines))
    outcomes = list(matching.outcomes(lines))
    assert len(dict(outcomes)) == len(outcomes), "each record has one outcome"
    return matching, dict(outcomes)


def outcomes_of(lines: Sequence[bytes]) -> dict[str, Matched | Problem]:
    return read(lines)[1]


def good_lines() -> list[bytes]:
    return [line(key, token) for key, token in TOKENS.items()]


def problem(outcome: Matched | Problem) -> str:
    assert isinstance(outcome, Problem), outcome
    return outcome.error_type


def test_invariant_10_a_shuffled_file_gives_each_record_its_own_answer() -> None:
    lines = good_lines()
    Random(1).shuffle(lines)
    outcomes = outcomes_of(lines)
    assert {key: outcome.output for key, outcome in outcomes.items() if isinstance(outcome, Matched)} == {
        key: {"value": token} for key, token in TOKENS.items()
    }


def test_invariant_10_a_missing_line_is_a_problem_of_its_record() -> None:
    outcomes = outcomes_of(good_lines()[:-1])
    assert problem(outcomes["k5"]) == "MissingResponse"
    assert sum(isinstance(outcome, Matched) for outcome in outcomes.values()) == 5


def test_invariant_10_neither_of_two_lines_for_a_record_is_taken() -> None:
    matching, outcomes = read([*good_lines(), line("k2", TOKENS["k2"], more=1), line("k2", TOKENS["k2"], more=2)])
    assert problem(outcomes["k2"]) == "DuplicateResponse"
    paid = [outcomes["k2"].usage, *matching.more_usages]
    assert [usage and usage.prompt_token_count for usage in paid] == [5, 5, 5], "each line was paid for"


def test_lines_that_are_there_twice_to_the_byte_are_one_line() -> None:
    lines = [*good_lines(), line("k99", "00000063")]
    matching, outcomes = read([*lines, *(b"\xef\xbb\xbf" + each + b" \r\n" for each in lines)])
    assert all(isinstance(outcome, Matched) for outcome in outcomes.values())
    assert (matching.foreign_keys, len(matching.more_usages)) == (["k99"], 1)


def test_invariant_10_a_line_nobody_asked_for_is_named_and_changes_nothing() -> None:
    matching, outcomes = read([*good_lines(), line("k99", "00000063")])
    assert matching.foreign_keys == ["k99"]
    assert [usage and usage.prompt_token_count for usage in matching.more_usages] == [5], "it is on the bill all the same"
    assert len(outcomes) == 6


def test_invariant_10_swapped_answers_are_both_refused() -> None:
    swapped = [line("k0", TOKENS["k1"]), line("k1", TOKENS["k0"]), *good_lines()[2:]]
    outcomes = outcomes_of(swapped)
    assert [problem(outcomes["k0"]), problem(outcomes["k1"])] == ["SwappedResponse"] * 2


def answered(text: str) -> Matched | Problem:
    raw = {"key": "k0", "response": {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": text}]}}]}}
    return read([json.dumps(raw).encode()], {"k0": "0"})[1]["k0"]


OBJECT = '{"item_token": "0", "a": {"b": [1]}}'


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{OBJECT}\n```", f"```\n{OBJECT}```", f"Sure! Here it is:\n{OBJECT}", f"{OBJECT}\nIs there more?",
        f"\ufeff{OBJECT}",
    ],
)  # fmt: skip
def test_the_only_object_in_a_text_is_read_and_flagged(text: str) -> None:
    outcome = answered(text)
    assert isinstance(outcome, Matched)
    assert (outcome.output, outcome.has_text_around) == ({"a": {"b": [1]}}, True)


def test_an_object_alone_is_not_flagged() -> None:
    outcome = answered(f" \n{OBJECT}\n")
    assert isinstance(outcome, Matched)
    assert not outcome.has_text_around


@pytest.mark.parametrize(
    "text",
    [
        "Here you are.", f"```json\n{OBJECT[:-1]}\n```", f"{OBJECT} or rather {OBJECT}", f"[{OBJECT}]", f"Of {{many}}: {OBJECT}",
        f'{{"outer": {OBJECT}', f"{OBJECT}}}", '```json\n{"item_token": "0", "a": NaN}\n```',
    ],
)  # fmt: skip
def test_a_text_in_which_another_object_could_be_meant_is_refused_whole(text: str) -> None:
    outcome = answered(text)
    assert isinstance(outcome, Problem)
    assert (outcome.error_type, outcome.text) == ("JSONDecodeError", text)


def test_a_torn_line_is_reported_by_number_and_its_record_counts_as_missing() -> None:
    lines = good_lines()
    lines[3] = lines[3][:40]
    matching, outcomes = read(lines)
    assert {number: line.raw for number, line in matching.unreadable.items()} == {4: lines[3]}
    assert matching.more_usages == [None], "it was paid for, and does not say how much"
    assert problem(outcomes["k3"]) == "MissingResponse"


def test_byte_order_marks_and_blank_lines_lose_nothing() -> None:
    lines = [b"\xef\xbb\xbf" + good_lines()[0], b"", b" \r\n", b"\xef\xbb\xbf", *good_lines()[1:]]
    matching, outcomes = read(lines)
    assert all(isinstance(outcome, Matched) for outcome in outcomes.values())
    assert (matching.unreadable, matching.more_usages) == ({}, [])


@given(st.lists(st.tuples(st.sampled_from([*TOKENS, "other"]), st.sampled_from(sorted(TOKENS.values())))))
def test_invariant_10_whatever_comes_each_record_has_one_outcome_and_no_foreign_answer(pairs: list[tuple[str, str]]) -> None:
    outcomes = outcomes_of([line(key, token) for key, token in pairs])
    assert outcomes.keys() == TOKENS.keys()
    for key, outcome in outcomes.items():
        if isinstance(outcome, Matched):
            assert outcome.output["value"] == TOKENS[key]
            assert {pair for pair in pairs if pair[0] == key} == {(key, TOKENS[key])}


def test_a_line_that_is_odd_inside_is_a_problem_of_its_own_record_and_keeps_its_text() -> None:
    odd = [
        b'{"key":"k0","response":{"candidates":{}}}', b'{"key":"k1","error":[1]}', b'{"key":"k2","response":"no"}',
        b'{"key":"k3","response":{"candidates":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    ]  # fmt: skip
    matching, outcomes = read(odd)
    assert [problem(outcomes[f"k{number}"]) for number in range(4)] == ["UnreadableResponse"] * 3 + ["MissingResponse"]
    assert matching.unreadable.keys() == {4}
    assert outcomes["k0"].raw == odd[0]


@pytest.mark.parametrize("count", ["-5", "1" + "0" * 30, "null", '"7"', "1.5", "7.0", "0", "true"])
@pytest.mark.parametrize("name", ["promptTokenCount", "candidatesTokenCount"])
def test_a_bill_that_states_no_count_costs_no_answer_and_is_not_taken_for_zero(name: str, count: str) -> None:
    raw = line("k0", TOKENS["k0"]).replace(f'"{name}": {USAGE[name]}'.encode(), f'"{name}": {count}'.encode())
    outcome = outcomes_of([raw])["k0"]
    assert isinstance(outcome, Matched)
    assert outcome.usage is None


@pytest.mark.parametrize("usage", [b"null", b"{}", b"[]", b'"5"', b'{"totalTokenCount": 7}', b'{"promptTokenCount": 5}'])
def test_a_bill_without_the_counts_that_every_answer_has_is_not_stated(usage: bytes) -> None:
    outcome = outcomes_of([line("k0", TOKENS["k0"]).replace(json.dumps(USAGE).encode(), usage)])["k0"]
    assert isinstance(outcome, Matched)
    assert outcome.usage is None


def test_an_answer_that_nests_too_deep_for_the_database_is_refused() -> None:
    deep = json.loads("[" * 500 + "]" * 500)
    assert problem(outcomes_of([line("k0", TOKENS["k0"], more=deep)])["k0"]) == "JSONDecodeError"


def test_a_line_of_fifty_megabytes_is_read() -> None:
    outcome = outcomes_of([line("k0", TOKENS["k0"], more="x" * 50_000_000)])["k0"]
    assert isinstance(outcome, Matched)


NAMES = st.sampled_from(["key", "response", "error", "candidates", "content", "parts", "text", "finishReason", "usageMetadata", "code"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(SCALARS, lambda part: st.lists(part) | st.dictionaries(NAMES, part))
SAID = st.builds(lambda name, value: json.dumps({"key": "k0", name: value}).encode(), st.sampled_from(["response", "error"]), JSON)
LINES = st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | SAID


@given(st.lists(st.sampled_from(["", "k0"]).map(lambda key: line(key, TOKENS["k0"]))))
def test_a_key_is_a_key_even_when_it_is_empty(lines: list[bytes]) -> None:
    assert read(lines, {"": TOKENS["k0"], "k0": TOKENS["k0"]})[1].keys() == {"", "k0"}


@given(st.lists(LINES, max_size=8))
def test_whatever_the_file_holds_each_record_has_one_outcome_and_nothing_is_raised(lines: list[bytes]) -> None:
    outcomes = outcomes_of(lines)
    assert outcomes.keys() == TOKENS.keys()
    assert all(isinstance(outcome, Problem) for outcome in outcomes.values())


@given(JSON.filter(lambda value: "Infinity" not in json.dumps(value) and "NaN" not in json.dumps(value)))
def test_whatever_is_said_of_a_record_is_an_answer_or_a_problem(value: object) -> None:
    read_line(decode_line(json.dumps({"key": "k0", "response": value, "error": None}).encode()))


@given(st.integers(0, 2_000), st.integers(0, 2_000))
def test_a_file_that_lost_a_part_anywhere_gives_no_wrong_answer(start: int, end: int) -> None:
    whole = b"\n".join(good_lines())
    outcomes = outcomes_of((whole[:start] + whole[max(start, end) :]).splitlines())
    assert all(isinstance(outcome, Problem) or outcome.output == {"value": TOKENS[key]} for key, outcome in outcomes.items())
