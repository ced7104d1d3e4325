"""What the lines of one batch cost: stated tokens at the price of the day of submission, else what was reserved for a line. Pure.

An answer is never held back for its bill, and the caps hold all the same: where a line does not say what it used, or the price of
the model has gone from the settings, its share of what was reserved counts as spent. How often that was so is counted here, and
said in the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from decimal import Decimal

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import ModelPrice
from medallion_defs.genai.answers import Usage
from medallion_defs.genai.cost import cost_usd
from medallion_defs.genai.state import GenaiBatch

_NOTHING = Usage()


@dataclass
class Bill:
    """The bill of one batch, read once from its first line to its last.

    Attributes:
        unstated: lines that do not say what they used.
        unpriced: lines for which there is no price.
        unanswered: records without a line, of a job that ended well.
    """

    batch: GenaiBatch
    prices: Sequence[ModelPrice]
    unstated: int = field(default=0, init=False)
    unpriced: int = field(default=0, init=False)
    unanswered: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        batch = self.batch
        self._day = (batch.submitted_at or batch.created_at).astimezone(UTC).date()
        self._share = batch.reserved_usd / batch.request_count
        # A price is looked up for each line: only among those of the model.
        self.prices = [price for price in self.prices if (price.model, price.mode) == (batch.model, batch.mode)]

    def cost(self, usage: Usage | None, *, is_missing: bool = False) -> Decimal:
        """Return what a line costs, in USD; None: it does not say what it used, or is missing itself."""
        if usage is None:
            self.unstated += not is_missing
            self.unanswered += is_missing
            return self._share
        if usage == _NOTHING:
            return Decimal(0)
        try:
            return cost_usd(usage, self.prices, self.batch.model, self.batch.mode, self._day)
        except ConfigurationError:
            self.unpriced += 1
            return self._share
