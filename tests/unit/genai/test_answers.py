"""What a response says: an answer only when it ended as it should."""

import json

import pytest

from medallion_defs.genai.answers import Answer, Problem, decode_line, read_line

USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 30, "somethingNew": [1]}


def response(**candidate: object) -> bytes:
    return json.dumps({"key": "k", "response": {"candidates": [candidate], "usageMetadata": USAGE, "newField": {}}}).encode()


def content(*parts: dict[str, object]) -> dict[str, object]:
    return {"role": "model", "parts": list(parts)}


def test_an_answer_is_the_text_without_the_thoughts() -> None:
    line = response(finishReason="STOP", content=content({"text": "hm", "thought": True}, {"text": '{"a":'}, {"text": "1}"}))
    answer = read_line(decode_line(line))
    assert isinstance(answer, Answer)
    assert answer.text == '{"a":1}'
    assert (answer.usage.prompt_token_count, answer.usage.candidates_token_count, answer.usage.thoughts_token_count) == (100, 20, 30)


@pytest.mark.parametrize(
    ("reason", "error_type"),
    [
        ("MAX_TOKENS", "MaxTokens"),
        ("SAFETY", "Safety"),
        ("RECITATION", "Recitation"),
        ("PROHIBITED_CONTENT", "Blocked"),
        ("CONTINUATION", "NotFinished"),
        ("A_REASON_OF_NEXT_YEAR", "NotFinished"),
    ],
)
def test_any_other_end_than_stop_is_a_problem_with_its_text_and_its_cost(reason: str, error_type: str) -> None:
    problem = read_line(decode_line(response(finishReason=reason, content=content({"text": '{"a": 1}'}))))
    assert isinstance(problem, Problem)
    assert (problem.error_type, problem.text) == (error_type, '{"a": 1}')
    assert reason in problem.message
    assert problem.usage.thoughts_token_count == 30


def test_a_blocked_prompt_will_be_blocked_again() -> None:
    line = b'{"key":"k","response":{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":7}}}'
    problem = read_line(decode_line(line))
    assert isinstance(problem, Problem)
    assert (problem.error_type, problem.is_terminal, problem.usage.prompt_token_count) == ("Blocked", True, 7)


@pytest.mark.parametrize(
    "line", [b'{"key":"k","response":{}}', b'{"key":"k","response":{"candidates":[{"finishReason":"STOP","content":{"parts":[]}}]}}']
)
def test_an_empty_response_is_a_problem(line: bytes) -> None:
    problem = read_line(decode_line(line))
    assert isinstance(problem, Problem)
    assert problem.error_type == "EmptyCandidates"


@pytest.mark.parametrize(
    ("code", "is_terminal"),
    [(3, True), (5, True), (7, True), (11, True), (400, True), (404, True), (413, True)]
    + [(code, False) for code in (None, 0, 1, 2, 4, 8, 10, 13, 14, 408, 409, 429, 499, 500, 503, 529)],
)
def test_an_error_of_the_provider_says_whether_asking_again_may_help(code: int | None, is_terminal: bool) -> None:
    problem = read_line(decode_line(json.dumps({"key": "k", "error": {"code": code, "message": "no", "details": [{}]}}).encode()))
    assert isinstance(problem, Problem)
    assert (problem.error_type, problem.is_terminal) == ("ProviderError", is_terminal)
