"""`gold.media_labels`: what holds now, whatever was answered, judged, promoted and rolled back, and in whatever order."""

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.engine.promotion import promote, retire, rollback
from medallion_defs.labeling.labels.build import find_work, refresh_labels
from medallion_defs.labeling.labels.verdicts import give_verdict, withdraw_verdict
from tests.integration.labeling.notes import count_task, outputs, put_notes, shout_task, states

TASK = "note.shout"


def labels(db: psycopg.Connection) -> dict[str, str]:
    """Who said so, by what is said."""
    rows = db.execute("SELECT output ->> 'text', source FROM gold.media_labels ORDER BY 1").fetchall()
    db.commit()
    return dict(rows)


def digest(db: psycopg.Connection) -> Any:
    """A hash over all that a row of gold says, times apart."""
    [(found,)] = db.execute(
        "SELECT md5(coalesce(string_agg(to_jsonb(label)::text, '' ORDER BY task_key, media_type, file_hash), '')) FROM ("
        " SELECT task_key, media_type, file_hash, task_id, prompt_id, subject_table, subject_key, file_id, source, output, verdict_id,"
        " result_change_seq, verdict_change_seq, prompt_order FROM gold.media_labels) AS label"
    ).fetchall()
    db.commit()
    return found


def task_id_of(db: psycopg.Connection, body: str, prompt_id: str) -> UUID:
    [(found,)] = db.execute(
        "SELECT task_id FROM silver.tasks_results WHERE file_hash = %s AND prompt_id = %s",
        (hashlib.sha256(body.encode()).hexdigest(), prompt_id),
    ).fetchall()
    db.commit()
    return UUID(str(found))


def has_work(db: psycopg.Connection) -> bool:
    found = find_work(db)
    db.commit()
    return not found.is_none


def test_answers_become_labels_once(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    assert not has_work(notes)
    runner.run(settings, shout_task())
    assert has_work(notes)
    first, second = refresh_labels(settings), refresh_labels(settings)
    assert (first.counts.created, first.labels) == (2, {TASK: {"processor": 2}})
    assert (second.counts.checked, has_work(notes)) == (0, False)
    assert labels(notes) == {"HELLO": "processor", "WORLD": "processor"}


def test_what_comes_later_is_added_and_the_rest_is_not_looked_at(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    runner.run(settings, shout_task())
    refresh_labels(settings)
    put_notes(notes, n7="later")
    runner.run(settings, shout_task())
    report = refresh_labels(settings)
    assert (report.counts.checked, report.counts.created) == (1, 1)


def test_a_verdict_wins_and_its_withdrawal_brings_the_answer_back(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    task = shout_task()
    runner.run(settings, task)
    task_id = task_id_of(notes, "hello", task.profiles[0].prompt_id)
    verdict = give_verdict(settings, task, task_id, {"text": "Hi", "length": 2}, "nobody shouts", "ada")
    assert refresh_labels(settings).counts.created == 1
    assert (labels(notes), has_work(notes)) == ({"Hi": "verdict"}, False)
    withdraw_verdict(settings, verdict)
    assert refresh_labels(settings).counts.updated == 1
    assert (labels(notes), has_work(notes)) == ({"HELLO": "processor"}, False)


def test_a_promotion_shows_new_answers_and_old_ones_until_there_are_new(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, old)
    refresh_labels(settings)
    promote(settings, new, new.profiles[0].prompt_id)
    runner.run(settings, new, limit=1)
    report = refresh_labels(settings)
    assert (report.counts.updated, report.decided_anew) == (1, (TASK,))
    assert sorted(text[-1] for text in labels(notes)) == ["!", "?"]
    runner.run(settings, new)
    refresh_labels(settings)
    assert (labels(notes), has_work(notes)) == ({"HELLO?": "processor", "WORLD?": "processor"}, False)


def test_a_rollback_takes_the_answers_of_the_promoted_profile_out(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, old)
    promote(settings, new, new.profiles[0].prompt_id)
    put_notes(notes, n7="later")
    runner.run(settings, new)
    refresh_labels(settings)
    assert labels(notes) == {"HELLO?": "processor", "LATER?": "processor"}
    rollback(settings, new)
    assert refresh_labels(settings).counts.deleted == 1
    assert labels(notes) == {"HELLO!": "processor"}
    runner.run(settings, new)
    refresh_labels(settings)
    assert (labels(notes), has_work(notes)) == ({"HELLO!": "processor", "LATER!": "processor"}, False)


def test_a_variant_is_no_label_and_no_work(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello")
    old, new = shout_task(mark="!"), shout_task(mark="?")
    runner.run(settings, old)
    refresh_labels(settings)
    promote(settings, new, new.profiles[0].prompt_id, as_variant=True)
    runner.run(settings, old)
    assert len(notes.execute("SELECT FROM silver.tasks_results").fetchall()) == 2
    assert not has_work(notes)
    promote(settings, new, new.profiles[0].prompt_id)
    assert has_work(notes)
    refresh_labels(settings)
    assert (labels(notes), has_work(notes)) == ({"HELLO?": "processor"}, False)


def test_answers_of_a_variant_become_labels_with_its_promotion_where_the_primary_had_none(
    notes: psycopg.Connection, settings: Settings
) -> None:
    put_notes(notes, "terminal")
    old, new = shout_task(mark="!"), shout_task(lambda items, context: shout_anything(items), mark="?")
    runner.run(settings, old)
    promote(settings, new, new.profiles[0].prompt_id, as_variant=True)
    runner.run(settings, new)
    assert refresh_labels(settings).counts.checked == 0
    promote(settings, new, new.profiles[0].prompt_id)
    assert refresh_labels(settings).counts.created == 1
    assert (labels(notes), has_work(notes)) == ({"anything": "processor"}, False)


def shout_anything(items: Any) -> Any:
    from medallion_defs.labeling.contract import ProcessingResult

    return [ProcessingResult(item.task_id, {"text": "anything", "length": 8}) for item in items]


def test_a_backfill_that_answers_otherwise_changes_the_label(notes: psycopg.Connection, settings: Settings) -> None:
    from medallion_defs.core import clock
    from medallion_defs.ops.scope import Scope

    put_notes(notes, "hello")
    runner.run(settings, shout_task())
    refresh_labels(settings)
    anything = shout_task(lambda items, context: shout_anything(items))
    runner.backfill(settings, anything, Scope(), clock.now())
    runner.run(settings, anything)
    assert refresh_labels(settings).counts.updated == 1
    assert labels(notes) == {"anything": "processor"}


def test_a_full_refresh_finds_what_was_deleted_by_hand(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    runner.run(settings, shout_task())
    refresh_labels(settings)
    notes.execute("DELETE FROM silver.tasks_results WHERE output ->> 'text' = 'HELLO'")
    notes.commit()
    assert refresh_labels(settings).counts.deleted == 0
    assert refresh_labels(settings, is_full=True).counts.deleted == 1
    assert labels(notes) == {"WORLD": "processor"}


class Chaos:
    """Anything that may happen to answers, verdicts and profiles, by chance."""

    def __init__(self, db: psycopg.Connection, settings: Settings, seed: int) -> None:
        self.db, self.settings, self.chance = db, settings, random.Random(seed)
        self.tasks = {mark: shout_task(mark=mark) for mark in "!?."}
        self.steps = [self.arrive, self.arrive, self.arrive, self.judge, self.unjudge, self.promote, self.try_beside]

    def read(self, query: str) -> list[Any]:
        found = self.db.execute(query).fetchall()
        self.db.commit()
        return found

    def arrive(self) -> None:
        put_notes(self.db, **{f"n{self.chance.randrange(9)}": self.chance.choice(["hello", "world", "sun", "moon", "rain"])})

    def judge(self) -> None:
        if found := self.read("SELECT task_id FROM silver.tasks_results ORDER BY change_seq"):
            output = {"text": f"judged {self.chance.random()}", "length": 1}
            give_verdict(self.settings, self.tasks["!"], self.chance.choice(found)[0], output, "seen", "ada")

    def unjudge(self) -> None:
        for (verdict_id,) in self.read("SELECT verdict_id FROM silver.tasks_verdicts WHERE superseded_at IS NULL ORDER BY verdict_id"):
            if self.chance.random() < 0.5:
                withdraw_verdict(self.settings, verdict_id)

    def promote(self) -> None:
        task = self.chance.choice(list(self.tasks.values()))
        promote(self.settings, task, task.profiles[0].prompt_id)

    def try_beside(self) -> None:
        task = self.chance.choice([task for mark, task in self.tasks.items() if mark != self.primary_mark])
        promote(self.settings, task, task.profiles[0].prompt_id, as_variant=True)
        if self.chance.random() < 0.5:
            retire(self.settings, task, task.profiles[0].prompt_id)

    @property
    def primary_mark(self) -> str:
        [(mark,)] = self.read("SELECT content -> 'parameters' ->> 'mark' FROM silver.tasks_prompts WHERE state = 'primary'")
        return str(mark)

    def happen(self) -> None:
        self.chance.choice(self.steps)()
        if self.chance.random() < 0.6:
            runner.run(self.settings, self.tasks[self.primary_mark], limit=3)
        if self.chance.random() < 0.5:
            refresh_labels(self.settings, max_rows=self.chance.choice([1, 2, 100]))


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happened_in_between_a_rebuild_gives_the_same_gold(notes: psycopg.Connection, settings: Settings, seed: int) -> None:
    chaos = Chaos(notes, settings, seed)
    runner.run(settings, chaos.tasks["!"])
    for _ in range(40):
        chaos.happen()
    refresh_labels(settings, max_rows=1)
    assert not has_work(notes)
    kept = digest(notes)
    notes.execute("TRUNCATE gold.media_labels")
    notes.commit()
    refresh_labels(settings)
    assert digest(notes) == kept
    shown = chaos.read("SELECT file_hash, output FROM gold.media_labels ORDER BY 1")
    assert shown
    assert shown == chaos.read("SELECT file_hash, output FROM silver.tasks_current ORDER BY 1")


def test_refreshes_beside_writers_miss_nothing(notes: psycopg.Connection, settings: Settings) -> None:
    tasks = [shout_task(mark="!"), shout_task(mark="!")]

    def write(worker: int) -> None:
        with psycopg.connect(settings.require_database_url()) as own:
            for number in range(10):
                put_notes(own, **{f"w{worker}-{number}": f"{worker} says {number}"})
                runner.run(settings, tasks[worker])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, worker) for worker in range(2)]
        readers = [pool.submit(lambda: [refresh_labels(settings, max_rows=2) for _ in range(10)]) for _ in range(2)]
        for done in (*writers, *readers):
            done.result()
    runner.run(settings, tasks[0])
    refresh_labels(settings)
    assert len(labels(notes)) == 20
    assert not has_work(notes)


def delete_notes(db: psycopg.Connection, *keys: str) -> None:
    db.execute("DELETE FROM silver.notes WHERE note_key = ANY (%s)", (list(keys),))
    db.commit()


def test_a_label_goes_with_its_subject_and_comes_back_with_it_unasked(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    task = shout_task()
    runner.run(settings, task)
    refresh_labels(settings, [task.spec])
    give_verdict(settings, task, task_id_of(notes, "world", task.profiles[0].prompt_id), {"text": "Hi", "length": 2}, "quiet", "ada")
    refresh_labels(settings, [task.spec])
    before = digest(notes)
    delete_notes(notes, "n1")
    assert refresh_labels(settings, [task.spec]).counts.deleted == 1
    assert (labels(notes), outputs(notes).keys(), has_work(notes)) == ({"HELLO": "processor"}, {"n0"}, False)
    assert states(notes)["n1"][0] == "withdrawn"
    refresh_labels(settings, [task.spec], is_full=True)
    assert labels(notes) == {"HELLO": "processor"}
    put_notes(notes, n1="world")
    assert runner.run(settings, task).events == {}
    refresh_labels(settings, [task.spec])
    assert (labels(notes), has_work(notes)) == ({"HELLO": "processor", "Hi": "verdict"}, False)
    assert states(notes)["n1"][0] == "succeeded"
    assert digest(notes) != before, "the note is another item's"


def test_a_label_stays_while_another_subject_has_the_bytes(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "hello")
    task = shout_task()
    runner.run(settings, task)
    refresh_labels(settings, [task.spec])
    [(asked,)] = notes.execute("SELECT subject_key FROM gold.media_labels").fetchall()
    [other] = {"n0", "n1"} - {asked}
    delete_notes(notes, asked)
    refresh_labels(settings, [task.spec])
    assert notes.execute("SELECT subject_key, output ->> 'text' FROM gold.media_labels").fetchall() == [(other, "HELLO")]
    delete_notes(notes, other)
    assert refresh_labels(settings, [task.spec]).counts.deleted == 1
    assert labels(notes) == {}


def test_what_was_found_in_an_answer_goes_and_comes_back_with_it(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    tasks = [shout_task(), count_task()]
    specs = [task.spec for task in tasks]
    for task in tasks:
        runner.run(settings, task)
    refresh_labels(settings, specs)
    delete_notes(notes, "n0")
    assert refresh_labels(settings, specs).counts.deleted == 2
    assert (outputs(notes).keys(), outputs(notes, "note.count").keys()) == ({"n1"}, {"n1"})
    put_notes(notes, n0="hello")
    assert [runner.run(settings, task).events for task in tasks] == [{}, {}]
    assert refresh_labels(settings, specs).counts.created == 2


def test_gold_labels_built_again_after_a_deletion_are_the_same(notes: psycopg.Connection, settings: Settings) -> None:
    put_notes(notes, "hello", "world")
    task = shout_task()
    runner.run(settings, task)
    refresh_labels(settings, [task.spec])
    delete_notes(notes, "n0")
    refresh_labels(settings, [task.spec])
    before = digest(notes)
    notes.execute("TRUNCATE gold.media_labels")
    notes.commit()
    refresh_labels(settings, [task.spec])
    assert digest(notes) == before
