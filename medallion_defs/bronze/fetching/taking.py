"""Publishing what a fetch offers, group by group. Whatever one offer makes the code raise, the others are taken."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from medallion_defs.bronze.fetching.copying import FileRefusedError, FileUnsettledError
from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.fetching.report import FetchReport, LeftFile
from medallion_defs.core.batching import cut
from medallion_defs.core.errors import MedallionError, describe_unexpected
from medallion_defs.storage.item import BronzeItem
from medallion_defs.storage.naming import InvalidExternalIdError
from medallion_defs.storage.publishing import BronzeStore, DamagedItemError, ForgottenItemError, Group, NewItem
from medallion_defs.storage.tombstone import Entry, Tombstone, facts_of, hashed_id

GROUP_ITEMS = 1_000  # the syncs of a group cost the same for ten items as for a thousand
GROUP_BYTES = 256 * 1024**2

Register = Callable[[Sequence[BronzeItem], Sequence[LeftFile]], None]
"""Writes into the ledger what a group published, and what was refused since the group before."""


class Offer(Protocol):
    """Something that a fetch may take: one item-to-be."""

    @property
    def external_id(self) -> str: ...

    @property
    def bytes(self) -> int: ...


AnOffer = TypeVar("AnOffer", bound=Offer)


class Taking(Generic[AnOffer]):
    """One fetch of one source.

    Args:
        new_item: makes the item of an offer, fetched at the given time. Raises `FileRefusedError` or `FileUnsettledError`, also
            while the content of its artifacts is read.
        time: now. Each further offer of the fetch is dated one microsecond later, so that of two the later one wins.

    Attributes:
        stuck: the offers that were refused.
    """

    def __init__(
        self, store: BronzeStore, source_type: str, new_item: Callable[[AnOffer, datetime], NewItem], register: Register, time: FetchTime
    ) -> None:
        self.report = FetchReport()
        self._store = store
        self._source_type = source_type
        self._new_item = new_item
        self._register = register
        self._time = time
        self._published: list[BronzeItem] = []
        self._refused: list[LeftFile] = []
        self.stuck: list[AnOffer] = []

    def publish(self, offers: Sequence[AnOffer]) -> list[tuple[AnOffer, BronzeItem]]:
        """Copy one group into bronze; return the offers that are in bronze now, with their items.

        Raises:
            TransientError, ConfigurationError: bronze cannot be written.
        """
        with self._store.group(self._source_type) as group:
            staged = [offer for offer in offers if self._stage(group, offer)]
            publications = group.publish()
        for publication in publications:
            self._count(publication.tombstone or publication.item, is_new=publication.is_new)
        self._published += [publication.item for publication in publications if publication.is_new]
        return [(offer, publication.item) for offer, publication in zip(staged, publications, strict=True)]

    def is_unchanged(self, offer: AnOffer, content_sha256: str) -> bool:
        """Tell whether bronze has the offer as it was when its content had this hash; it is counted then, and need not be read."""
        # Bronze is asked: it may have been restored or emptied since, and then the offer is news again.
        current = self._store.current(self._source_type, offer.external_id)
        if current is None or facts_of(current).content_sha256 != content_sha256:
            return False
        self._count(current, is_new=False)
        return True

    def leave(self, left: LeftFile) -> None:
        """Note something that is not taken."""
        self.report.add_left(left)
        if left.kind == "refused":
            self._refused.append(left)

    def tell(self) -> None:
        """Tell the ledger what was published and refused since the last call. Call it after each group, and at the end."""
        items, refused = self._published, self._refused
        self._published, self._refused = [], []
        if items or refused:
            self._register(items, refused)

    def _stage(self, group: Group, offer: AnOffer) -> bool:
        fetched_at = self._time.at + timedelta(microseconds=self.report.read)
        self.report.read += 1
        try:
            group.stage(self._new_item(offer, fetched_at))
        except (FileRefusedError, InvalidExternalIdError, DamagedItemError) as error:
            self._refuse(offer, LeftFile(offer.external_id, str(error)))
        except ForgottenItemError as error:
            # By its hash: the name is what was forgotten, and a report ends up in logs and in the ledger.
            self._refuse(offer, LeftFile(hashed_id(self._source_type, offer.external_id), str(error)))
        except FileUnsettledError as error:
            self.leave(LeftFile(offer.external_id, str(error), "waiting"))
        except MedallionError:
            raise  # of no offer: the disk
        except Exception as error:  # noqa: BLE001 - whatever one offer makes the code raise, the others are taken
            self._refuse(offer, LeftFile(offer.external_id, describe_unexpected(error)))
        else:
            return True
        return False

    def _refuse(self, offer: AnOffer, left: LeftFile) -> None:
        self.stuck.append(offer)
        self.leave(left)

    def _count(self, entry: Entry, *, is_new: bool) -> None:
        item = facts_of(entry)
        if isinstance(entry, Tombstone):
            self.leave(LeftFile(item.external_id, f"{item.path} had the same bytes and was {entry.sentence}", "removed"))
        else:
            self.report.add_item(item, is_new=is_new)


def groups_of(offers: Iterable[AnOffer]) -> Iterator[list[AnOffer]]:
    """Cut offers into groups that become durable together: at most 1,000 and 256 MiB; a larger one goes alone."""
    return cut(offers, lambda offer: offer.bytes, most_items=GROUP_ITEMS, most_bytes=GROUP_BYTES)
