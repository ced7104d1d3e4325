"""What answers cost, to the last digit."""

from datetime import date
from decimal import Decimal

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import ModelPrice
from medallion_defs.genai.answers import Usage
from medallion_defs.genai.cost import cost_usd, estimate_usd

DAY = date(2026, 11, 20)


def price(mode: str, valid_from: str, rates: tuple[str, str, str], above: int = 0) -> ModelPrice:
    given, cached, out = rates
    return ModelPrice.model_validate({
        "model": "flash", "mode": mode, "valid_from": valid_from, "above_tokens": above,
        "input_usd": given, "cached_input_usd": cached, "output_usd": out,
    })  # fmt: skip


PRICES = [
    price("batch", "2026-01-01", ("0.375", "0.075", "1.875")),
    price("online", "2026-01-01", ("0.75", "0.075", "3.75")),
    price("batch", "2027-01-01", ("0.75", "0.15", "3.75")),
    price("online", "2026-01-01", ("1.50", "0.15", "7.50"), above=200_000),
]


def test_thoughts_are_billed_as_output_and_cached_tokens_at_their_own_price() -> None:
    usage = Usage(
        prompt_token_count=1_000, cached_content_token_count=400, candidates_token_count=200, thoughts_token_count=300,
        tool_use_prompt_token_count=10,
    )  # fmt: skip
    # 610 · 0.375 + 400 · 0.075 + 500 · 1.875 = 228.75 + 30 + 937.5, per million
    assert cost_usd(usage, PRICES, "flash", "batch", DAY) == Decimal("0.00119625")


def test_the_price_of_the_day_holds() -> None:
    usage = Usage(prompt_token_count=1_000_000)
    assert cost_usd(usage, PRICES, "flash", "batch", date(2026, 12, 31)) == Decimal("0.375")
    assert cost_usd(usage, PRICES, "flash", "batch", date(2027, 1, 1)) == Decimal("0.75")


def test_a_long_prompt_has_its_own_price() -> None:
    assert cost_usd(Usage(prompt_token_count=199_999), PRICES, "flash", "online", DAY) == Decimal("0.14999925")
    assert cost_usd(Usage(prompt_token_count=200_000), PRICES, "flash", "online", DAY) == Decimal("0.3")


def test_a_long_prompt_keeps_its_own_price_when_the_short_ones_have_a_newer_one() -> None:
    newer = price("online", "2026-06-01", ("0.50", "0.05", "2.50"))
    usage = Usage(prompt_token_count=200_000)
    assert cost_usd(usage, [*PRICES, newer], "flash", "online", DAY) == Decimal("0.3"), "the tier is chosen before the day"
    assert cost_usd(Usage(prompt_token_count=100_000), [*PRICES, newer], "flash", "online", DAY) == Decimal("0.05")


def test_an_estimate_is_the_cost_of_the_longest_answer() -> None:
    assert estimate_usd(1_000, 2_000, PRICES, "flash", "batch", DAY) == Decimal("0.004125")


def test_a_model_without_a_price_is_an_error_and_not_free() -> None:
    with pytest.raises(ConfigurationError, match="No batch price for model 'pro' on 2026-11-20"):
        cost_usd(Usage(), PRICES, "pro", "batch", DAY)
