"""The work on a batch in a child process, and what becomes of its items when the child dies. Knows no database.

The child says at which item it is. When it dies, that item alone fails, with how it died, and a new child works on the others. When
it is not known which item it was, the batch is worked on in halves, until the item that did it is alone.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from medallion_defs.core.errors import MedallionError, TransientError
from medallion_defs.core.isolation import Death

A = TypeVar("A")
# A batch of 500 in halves takes nine deaths to find one item. More is not one item's fault.
MOST_DEATHS = 20
_LOG = logging.getLogger(__name__)


class WorkerDiedError(TransientError):
    """The worker died while it worked on this item."""


class ItemOverdueError(TransientError):
    """The work on this item took longer than it may."""


class DyingWorkersError(TransientError):
    """One run lost more workers than the items of its batch can explain."""


@dataclass(frozen=True)
class Budget:
    """How long one item may take, and the setting that says so (`sources.articles.max_item_seconds`)."""

    seconds: float
    setting: str


@dataclass
class Supervised(Generic[A]):
    """One run's work on one batch.

    Attributes:
        batch: its id, for logs and messages.
        do: works in a child on the items with these ids, None: on all that have no outcome; returns an answer, or how the child died.
        left: asked after each death: what has no outcome, with what people call it, in the batch's order. What the dead child had
            begun and not ended costs no attempt by then.
        fail: brings one of these to its outcome: this error, and an attempt.
        deaths: so far.
    """

    batch: str
    budget: Budget
    do: Callable[[Sequence[UUID] | None], A | Death]
    left: Callable[[], Mapping[UUID, str]]
    fail: Callable[[UUID, MedallionError], None]
    deaths: int = 0

    def work(self, ids: Sequence[UUID] | None = None) -> Iterator[A]:
        """Bring every item to an outcome; yield the answers.

        Raises:
            DyingWorkersError: worker after worker died; what has no outcome is left as it is.
        """
        answer = self.do(ids)
        if not isinstance(answer, Death):
            yield answer
            return
        asked = None if ids is None else set(ids)
        left = {item: name for item, name in self.left().items() if asked is None or item in asked}
        self._count(answer)
        for part in self._parts(left, answer):
            yield from self.work(part)

    def _parts(self, left: Mapping[UUID, str], death: Death) -> Sequence[Sequence[UUID]]:
        """Charge the item that did it, where that is known; return what is to be done, and in which parts."""
        items = list(left)
        is_alone = len(items) == 1
        culprit = death.item if death.item in left else items[0] if is_alone else None
        if culprit is None:
            middle = len(items) // 2
            parts = [items[:middle], items[middle:]]
        else:
            self.fail(culprit, explain(left[culprit], death, self.budget, is_alone=is_alone and death.item is None))
            parts = [[item for item in items if item != culprit]]
        return [part for part in parts if part]

    def _count(self, death: Death) -> None:
        self.deaths += 1
        _LOG.warning("The worker of batch %s was %s; the batch goes on in another.", self.batch, death.how, extra={"batch_id": self.batch})
        if self.deaths >= MOST_DEATHS:
            raise DyingWorkersError(
                f"{self.deaths} workers of batch {self.batch} died, the last {death.how}. That is not one item's doing: look at the "
                "machine's memory and the run's log. What has no outcome is tried again by a later run, without a charge."
            )


def explain(name: str, death: Death, budget: Budget, *, is_alone: bool) -> MedallionError:
    """Return the failure of the item that a worker died of. It says no more than is known."""
    place = f" It was in {death.place}." if death.place else ""
    if death.is_overdue:
        return ItemOverdueError(
            f"{name}: it took longer than max_item_seconds ({budget.seconds:g}), so its worker was ended.{place} "
            f"Raise {budget.setting} if such items need longer."
        )
    when = "while it worked on this item alone" if is_alone else "while it worked on this item"
    return WorkerDiedError(f"{name}: the worker died {when}: {death.how}. See the run's log.")
