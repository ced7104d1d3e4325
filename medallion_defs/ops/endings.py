"""Why an attempt did not end in silver, and what that costs: errors as the ledger keeps them, ends of runs, waits.

The rule of attempts: they are charged to the item that was being worked on. A person who cancels a run, and a stop, cost nothing.
When a run died and left no word at which of its items it was, none is charged; they come back in batches of half the size, and the
one that is alone is charged. So what kills its worker is found in few steps, and what was beside it loses nothing. Pure.
"""

from datetime import datetime
from typing import Literal

import msgspec

from medallion_defs.core.errors import MedallionError, UnexpectedError
from medallion_defs.ops.storable import storable_text

MESSAGE_CHARACTERS = 4000
WORKER_DIED = "WorkerDied"
NOT_STARTED = "RunNotStarted"
CANCELED = "RunCanceled"
OVERTIME = "RunTooLong"
# In the ledger's note on an item: how many may be together in its next batch.
TOGETHER = "together"

EndingKind = Literal["died", "canceled", "overtime", "stopped"]


class Ending(msgspec.Struct, frozen=True):
    """How a run ended that left items of its microbatch without an outcome.

    Attributes:
        kind: `died`: nobody knows why; `canceled`: a person ended it in Dagster; `overtime`: it ran longer than runs may;
            `stopped`: by a signal, with Medallion as a whole or from the keyboard.
        items: how many it left.
        run_id: its own, for people.
    """

    kind: EndingKind
    items: int = 1
    run_id: str | None = None

    def charges(self, *, is_started: bool) -> bool:
        """Whether it costs its items an attempt: there is only one, and the run had begun on it."""
        return self.items == 1 and (self.kind == "overtime" or (self.kind == "died" and is_started))

    def describe(self, again_at: datetime, *, is_started: bool) -> dict[str, str]:
        """Return what the ledger says of an item meanwhile: what happened, and when it is asked for again."""
        again = f"asked for again at {again_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.kind == "canceled":
            text = (
                f"A person cancelled run {self.run_id} in Dagster before it came to the end of this item. "
                f"No attempt is counted; it is {again}."
            )
            return {"error_type": CANCELED, "message": text}
        if self.kind == "died" and not is_started:
            text = f"The run of the microbatch ended before it started on this item; see the run's log. It is {again}."
            return {"error_type": NOT_STARTED, "message": text}
        kind, what = (OVERTIME, "took longer than runs may") if self.kind == "overtime" else (WORKER_DIED, "died and left no word why")
        if self.items == 1:
            text = f"Run {self.run_id} {what}, and this item was its only one. See the run's log, and the machine's memory."
            return {"error_type": kind, "message": text}
        half = (self.items + 1) // 2
        text = (
            f"Run {self.run_id} {what}, with {self.items} items in its microbatch. Which of them did it is not known, so no attempt "
            f"is counted, and they are tried again at most {half} together; this one is {again}."
        )
        return {"error_type": kind, "message": text, TOGETHER: str(half)}


def describe_error(error: BaseException) -> dict[str, str]:
    """Return `{error_type, message}` as the ledger keeps it: at most 4,000 characters, and none that Postgres refuses.

    Of what is not Medallion's own error, the type is the exception's, and the message says where in the code it came from.
    """
    known = error if isinstance(error, MedallionError) else UnexpectedError.of(error)
    return {"error_type": error_type(error), "message": storable_text(str(known))[:MESSAGE_CHARACTERS] or "(no message)"}


def error_type(error: BaseException) -> str:
    """Return the type by which an error is known: of what was not expected, that of the exception itself."""
    return error.type_name if isinstance(error, UnexpectedError) else type(error).__name__
