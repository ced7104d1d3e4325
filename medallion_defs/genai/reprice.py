"""Just before a batch is sent: is what was reserved for it enough at the prices of today? If not, more is reserved, or it waits.

A batch may wait for days between the two, and the bill is at the prices of the day of submission.
"""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai.cost import estimate_usd
from medallion_defs.genai.requests import estimate_tokens, max_output_tokens
from medallion_defs.genai.state import BatchState, GenaiBatch


def reserve_risen_price(state: BatchState, settings: GenaiSettings, batch: GenaiBatch, path: Path, at: datetime) -> str | None:
    """Reserve what the requests of a batch may cost today; return why it cannot be sent now, None: it can.

    A price that has fallen, or gone from the settings, leaves the reserve as it is. Opens a transaction.

    Args:
        path: the batch's request file.

    Raises:
        OSError: it, or a medium that it names, cannot be read.
    """
    try:
        usd = _estimate(settings, batch, path, at)
    except ConfigurationError:
        return None  # what was reserved counts as spent then, and the report says so
    if usd <= batch.reserved_usd:
        return None
    with state.transaction():
        more = usd - batch.reserved_usd
        room = state.read_room(batch.task_key, settings, at)
        if more > room.usd:
            return (
                f"At today's price of {batch.model} its requests may cost {usd:.6f} USD, and {batch.reserved_usd:.6f} USD are reserved. "
                f"{room.setting} is {room.cap_usd} USD, of which {room.committed_usd:.6f} USD are spent today or reserved. It waits for "
                f"another day, or for a higher cap in medallion.yaml; 'medallion genai cancel {batch.batch_id}' gives it up."
            )
        state.raise_reserve(batch.batch_id, usd, at)
    return None


def _estimate(settings: GenaiSettings, batch: GenaiBatch, path: Path, at: datetime) -> Decimal:
    usd = Decimal(0)
    with path.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            tokens = estimate_tokens(line)
            usd += estimate_usd(tokens, max_output_tokens(line), settings.prices, batch.model, batch.mode, at.date())
    return usd
