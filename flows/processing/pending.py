"""What there is to do: the landed batches that are in neither the ledger nor the quarantine."""

from collections.abc import Collection
from dataclasses import dataclass

from flows.errors import BatchError, LandingPrunedError, counted
from flows.landing.batch import Batch, Manifest, list_batches
from flows.settings import Settings
from flows.warehouse import ledger
from flows.warehouse.ledger import Key, LedgerSnapshot

FAILURES_BEFORE_ISOLATION = 3
Sources = Collection[str] | None
"""Names of the sources whose locks are held, so that no other may be touched; None is every source there is."""


@dataclass(frozen=True)
class Pending:
    """Pending batches with their manifests, what is wrong with each damaged one, and what the build has to know."""

    manifests: dict[Batch, Manifest]
    damaged: dict[Batch, str]
    snapshot: LedgerSnapshot
    project: str
    """Fingerprint of the dbt project as it is now."""
    sources: Sources
    full_refresh: bool

    @property
    def builds_everything(self) -> bool:
        """Whether all models are built: a project that has changed may have a new one beside those of the sources.

        Also after a build that failed or was killed: it may have begun marts of sources that have nothing pending,
        and those are not published before they have passed their tests.
        """
        is_new = self.project != self.snapshot.dbt_project or self.snapshot.untested_marts
        return self.full_refresh or (self.sources is None and is_new)

    @property
    def keeps_views(self) -> bool:
        """Whether the staging views are those of this project, so that building them again would change nothing."""
        return not self.builds_everything and self.snapshot.views_of == self.project

    @property
    def held_back(self) -> list[str]:
        """The sources that a killed run has left batches held back of."""
        return [source for source in self.snapshot.held_back if self.sources is None or source in self.sources]

    @property
    def failed_often(self) -> bool:
        """Whether a batch has been in so many failed builds that the batches are tried one by one."""
        return any(number >= FAILURES_BEFORE_ISOLATION for number in self.failures.values())

    @property
    def failures(self) -> dict[Key, int]:
        """How many failed builds count against each of the batches."""
        return {batch.key: self.snapshot.failures.get(batch.key, 0) for batch in self.manifests}


def find_pending(settings: Settings, sources: Sources, project: str, full_refresh: bool = False) -> Pending:
    """Every pending batch of the sources, its file verified.

    Raises LandingPrunedError for a full refresh, which rebuilds from the landing, if the landing lacks a batch that
    was processed.
    """
    snapshot = ledger.read(settings)
    batches = list_batches(settings.landing_root, sources)
    if full_refresh:
        refuse_pruned(snapshot, batches)
    pending = Pending({}, {}, snapshot, project, sources, full_refresh)
    for batch in snapshot.pending(batches):
        try:
            pending.manifests[batch] = batch.verify()
        except BatchError as error:
            pending.damaged[batch] = str(error)
    return pending


def refuse_pruned(snapshot: LedgerSnapshot, batches: Collection[Batch]) -> None:
    """LandingPrunedError if a processed batch is not among these."""
    lost = sorted(snapshot.processed - {batch.key for batch in batches}, key=lambda key: key[1])
    if lost:
        number = counted(len(lost), "processed batch is", "processed batches are")
        raise LandingPrunedError(
            f"full_refresh: {number} no longer in the landing, the oldest is {' '.join(lost[0])}; rebuilding would "
            "lose their rows. Restore them, or full-refresh single models with command='run' and select"
        )


def pending_sources(settings: Settings) -> set[str]:
    """Every source with a pending batch."""
    batches = list_batches(settings.landing_root)
    return {batch.source for batch in ledger.read(settings).pending(batches)}
