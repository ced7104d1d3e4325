"""What an answer costs: its tokens at the price of the day, in exact decimals. Pure.

    (prompt − cached) · input + cached · cached_input + (candidates + thoughts) · output + tool_use_prompt · input

Thoughts are billed as output. Prices are rows with a date in `medallion.yaml`, since they change; a model without a price has no
cost that a cap could hold, so that is an error and not zero.
"""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Literal

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import ModelPrice
from medallion_defs.genai.answers import Usage

Mode = Literal["batch", "online"]
_MILLION = Decimal(1_000_000)


def find_price(prices: Sequence[ModelPrice], model: str, mode: Mode, day: date, prompt_tokens: int) -> ModelPrice:
    """Return the price that holds for a request of `prompt_tokens` on `day`: of the tier for its length, the newest.

    Raises:
        ConfigurationError: there is none.
    """
    fitting = [
        price
        for price in prices
        if price.model == model and price.mode == mode and price.valid_from <= day and price.above_tokens <= prompt_tokens
    ]
    if not fitting:
        raise ConfigurationError(f"No {mode} price for model '{model}' on {day}. Add one under genai.prices in medallion.yaml.")
    return max(fitting, key=lambda price: (price.above_tokens, price.valid_from))


def cost_usd(usage: Usage, prices: Sequence[ModelPrice], model: str, mode: Mode, day: date) -> Decimal:
    """Return what one response costs, in USD, unrounded."""
    price = find_price(prices, model, mode, day, usage.prompt_token_count)
    uncached = max(0, usage.prompt_token_count - usage.cached_content_token_count)
    tokens_usd = (
        (uncached + usage.tool_use_prompt_token_count) * price.input_usd
        + usage.cached_content_token_count * price.cached_input_usd
        + (usage.candidates_token_count + usage.thoughts_token_count) * price.output_usd
    )
    return tokens_usd / _MILLION


def estimate_usd(prompt_tokens: int, output_tokens: int, prices: Sequence[ModelPrice], model: str, mode: Mode, day: date) -> Decimal:
    """Return what a request may cost at most: what is reserved before it is sent."""
    return cost_usd(Usage(prompt_token_count=prompt_tokens, candidates_token_count=output_tokens), prices, model, mode, day)
