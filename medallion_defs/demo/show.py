"""`medallion demo`: start the stack, drop the sample, watch it flow through the real sensors, and say whether it came out right."""

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from rich.console import Console
from rich.live import Live
from rich.table import Table

from medallion_defs.bronze.store import open_store
from medallion_defs.core import db
from medallion_defs.core.errors import TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.demo.labelled import Labels, drop_labelled, emulated, expected_results, missing_labels, read_labels
from medallion_defs.demo.outcome import Outcome, differences, read_outcome
from medallion_defs.demo.pages import PageTree
from medallion_defs.demo.sample import FOLDER, Sample, SampleFile, make_sample
from medallion_defs.stack.running import RunningStack, running_stack
from medallion_defs.storage.naming import encode_external_id
from medallion_defs.storage.tombstone import facts_of

_WAVE_SECONDS = 300.0


@dataclass(frozen=True)
class Demo:
    """One demo on the data folder of `settings`."""

    settings: Settings
    console: Console

    def run(self, port: int, *, once: bool) -> list[str]:
        """Show the flow; return what came out otherwise than the sample's generator says. Without `once` stay up until Ctrl-C.

        Raises:
            TransientError: the stack did not start, or the files did not come through in time.
        """
        # A polite kill ends the stack as Ctrl-C does; by itself it would leave the processes behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        sample = make_sample()
        self.console.print("Starting Postgres, three code servers, the daemon and the web page (about 20 s) …")
        with emulated(self.settings) as environment, running_stack(self.settings, port, environment) as stack:
            self.console.print(f"Dagster is up: [link]{stack.url}[/link]")
            settings = self.settings.model_copy(update={"database_url": stack.databases.medallion_url})
            with db.connect(settings, "medallion_console") as connection:
                wrong = [*self._show(connection, sample, stack), *self._label(connection, stack)]
            if not once:
                self.console.print(f"\nThe web page stays up at {stack.url} until Ctrl-C.")
                _wait_for_interrupt(stack)
        return wrong

    def _show(self, connection: psycopg.Connection, sample: Sample, stack: RunningStack) -> list[str]:
        started = time.monotonic()
        for wave, words in ((1, "first deliveries"), (2, "a correction, a repetition, and companies that events already named")):
            dropped = self._drop(file for file in sample.files if file.wave == wave)
            self.console.print(f"\nWave {wave}: {words}; {dropped} files dropped into landing/*/{FOLDER}/")
            self._watch(connection, sum(file.wave <= wave and file.revision > 0 for file in sample.files), stack)
        outcome = read_outcome(connection)
        wrong = differences(sample.expected, outcome.counts)
        self.console.print(summary(outcome, time.monotonic() - started))
        self._judge(wrong)
        return wrong

    def _label(self, connection: psycopg.Connection, stack: RunningStack) -> list[str]:
        """Drop pages, a picture, a sound and an article; watch the tasks label them."""
        started = time.monotonic()
        tree = drop_labelled(self.settings)
        self.console.print(
            f"\nWave 3: {len(tree.pages)} pages of school publications, a picture, a sound and an article, labelled by tasks.\n"
            "  Answers come from the local emulator: they are made up, and nothing is sent or paid."
        )
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:

            def is_done() -> bool:
                labels = read_labels(connection, tree)
                live.update(label_progress(labels, tree, time.monotonic() - started))
                return not missing_labels(labels, tree)

            stack.wait_for(f"the labels of {len(tree.pages)} pages; the runs at {stack.url}/runs say why", is_done, _WAVE_SECONDS)
        labels = read_labels(connection, tree)
        self.console.print(label_summary(labels, time.monotonic() - started))
        self.console.print(where_to_look(stack.url), soft_wrap=True)
        wrong = missing_labels(labels, tree)
        self._judge(wrong)
        return wrong

    def _judge(self, wrong: list[str]) -> None:
        for sentence in wrong:
            self.console.print(f"[red]not as expected:[/red] {sentence}")
        if not wrong:
            self.console.print("[green]Every count is what the sample's generator says it must be.[/green]")

    def _drop(self, files: Iterable[SampleFile]) -> int:
        """Put files into landing that bronze does not have yet: a second demo adds no revisions to the first one's."""
        store, count = open_store(self.settings), 0
        for file in files:
            current = store.current(file.source, file.external_id)
            if current is None or facts_of(current).revision < file.revision or file.revision == 0:
                path = self.settings.landing_path / file.source / FOLDER / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                growing = path.with_name(path.name + ".part")
                growing.write_bytes(file.content)
                growing.rename(path)
                count += 1
        return count

    def _watch(self, connection: psycopg.Connection, items: int, stack: RunningStack) -> None:
        """Show the counts grow until everything dropped so far is in gold and nothing waits in landing."""
        started = time.monotonic()
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:

            def is_done() -> bool:
                outcome = read_outcome(connection)
                live.update(progress(outcome, items, time.monotonic() - started))
                return outcome.is_settled(items) and not self._is_waiting()

            stack.wait_for(f"{items} items in silver and gold; the runs at {stack.url}/runs say why", is_done, _WAVE_SECONDS)
        self.console.print(f"  through all three layers after {time.monotonic() - started:.0f} s")

    def _is_waiting(self) -> bool:
        return any(path.is_file() for path in self.settings.landing_path.glob(f"[!.]*/{FOLDER}/*"))


def progress(outcome: Outcome, items: int, seconds: float) -> Table:
    """Return one line per layer: how far the sample is."""
    counts = outcome.counts
    known = sum(counts.items.values())
    table = Table.grid(padding=(0, 2))
    for layer, done, goal, what in (
        ("bronze", known, items, "items"),
        ("silver", known - outcome.open_items, items, f"items, {sum(counts.read.values()):,} records"),
        ("gold", sum(counts.matches.values()), sum(counts.created.values()) - counts.created["companies"], "rows"),
    ):
        filled = min(30, round(30 * done / goal)) if goal else 0
        table.add_row(f"  {layer}", "█" * filled + "░" * (30 - filled), f"{done:,} / {goal:,} {what}")
    table.add_row("", "", f"{seconds:.0f} s")
    return table


def summary(outcome: Outcome, seconds: float) -> Table:
    """Return the closing table: what each source gave, and what gold made of it."""
    counts = outcome.counts
    table = Table(title=f"The sample after {seconds:.0f} s", caption=_caption(outcome))
    table.add_column("source")
    for name in ("files", "read", "created", "updated", "repeated", "rejected"):
        table.add_column(name, justify="right")
    for source in sorted(counts.items):
        values = (counts.items, counts.read, counts.created, counts.updated, counts.repeated, counts.rejected)
        table.add_row(source, *(f"{value[source]:,}" for value in values))
    return table


def label_progress(labels: Labels, tree: PageTree, seconds: float) -> Table:
    """Return one line per task: how far the labels are."""
    table = Table.grid(padding=(0, 2))
    for task_key, goal in expected_results(tree).items():
        done = min(goal, labels.results.get(task_key, 0))
        filled = round(30 * done / goal)
        table.add_row(f"  {task_key}", "█" * filled + "░" * (30 - filled), f"{done:,} / {goal:,}")
    table.add_row("", "", f"{seconds:.0f} s")
    return table


def label_summary(labels: Labels, seconds: float) -> Table:
    """Return the closing table of the tasks."""
    caption = (
        f"gold.media_labels: {labels.in_gold} rows; success markers: {labels.markers}\n"
        f"{labels.batches} batches asked of the emulator; at the model's price that would be {labels.usd:.4f} USD"
    )
    table = Table(title=f"The labels after {seconds:.0f} s", caption=caption)
    table.add_column("task")
    table.add_column("results", justify="right")
    for task_key, number in sorted(labels.results.items()):
        table.add_row(task_key, f"{number:,}")
    return table


def where_to_look(url: str) -> str:
    """Return where a person goes on from here."""
    item = encode_external_id(f"{FOLDER}/events_2026-11-01.jsonl")
    return (
        f"\nThe graph        {url}/asset-groups\n"
        f"Runs             {url}/runs\n"
        f"Sensors          {url}/automation\n"
        "Where from?      .venv/bin/medallion trace gold.driver_events_enriched demo-000025\n"
        f"What came of it? .venv/bin/medallion trace data/bronze/driver_events/{item}\n"
        "What was asked?  .venv/bin/medallion genai batches\n"
        "What is open?    .venv/bin/medallion status"
    )


def _caption(outcome: Outcome) -> str:
    counts = outcome.counts
    matches = ", ".join(f"{rows:,} {status}" for status, rows in sorted(counts.matches.items()))
    rejects = ", ".join(f"{number} {code}" for code, number in sorted(counts.reject_codes.items()))
    return f"gold: {matches}\nflagged: {sum(counts.flags.values()):,} rows\nrejected: {rejects}\nfiles that cannot be read: {counts.dead}"


def _wait_for_interrupt(stack: RunningStack) -> None:
    try:
        while stack.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    raise TransientError("The stack ended by itself; data/dagster/logs says why.")
