"""What a batch of pages costs, worked out by hand: exact, record by record and summed, to the last digit of a cent."""

from datetime import date
from decimal import Decimal

import pytest

from medallion_defs.core.sections import ModelPrice
from medallion_defs.genai.answers import Usage
from medallion_defs.genai.cost import Mode, cost_usd

DAY = date(2026, 11, 20)
PRICES = [
    ModelPrice.model_validate({
        "model": "m", "mode": mode, "valid_from": "2026-01-01", "input_usd": prompt, "cached_input_usd": cached, "output_usd": output,
    })
    for mode, prompt, cached, output in (("batch", "0.15", "0.03", "1.25"), ("online", "0.30", "0.06", "2.50"))
]  # fmt: skip
# Tokens (prompt, of it cached, candidates, thoughts), and millionths of a dollar in a batch.
TABLE = [
    ((1_420, 0, 96, 0), "333"),  # 1,420 x 0.15 + 96 x 1.25 = 213 + 120
    ((1_420, 1_000, 200, 0), "343"),  # 420 x 0.15 + 1,000 x 0.03 + 200 x 1.25 = 63 + 30 + 250
    ((1_420, 0, 88, 512), "963"),  # 213 + 600 x 1.25
    ((1_420, 0, 0, 0), "213"),  # blocked: the prompt is billed
    ((0, 0, 0, 0), "0"),  # an error of the provider
    ((7, 0, 1, 0), "2.30"),  # 1.05 + 1.25
]


def cost(tokens: tuple[int, int, int, int], mode: Mode = "batch") -> Decimal:
    prompt, cached, candidates, thoughts = tokens
    usage = Usage(
        prompt_token_count=prompt, cached_content_token_count=cached, candidates_token_count=candidates, thoughts_token_count=thoughts
    )
    return cost_usd(usage, PRICES, "m", mode, DAY)


@pytest.mark.parametrize(("tokens", "millionths"), TABLE)
def test_a_page_costs_what_the_table_says(tokens: tuple[int, int, int, int], millionths: str) -> None:
    assert cost(tokens) == Decimal(millionths) / 1_000_000
    assert cost(tokens, "online") == 2 * cost(tokens)


def test_a_hundred_thousand_pages_cost_to_the_cent_what_one_costs_times_a_hundred_thousand() -> None:
    total = sum((cost((1_420, 0, 96, 0)) for _ in range(100_000)), Decimal(0))
    assert total == Decimal("33.30")
    assert sum((cost(tokens) for tokens, _ in TABLE), Decimal(0)) == Decimal("0.0018543")
