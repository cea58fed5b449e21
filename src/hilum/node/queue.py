"""The node's queue: one SQLite file that says what is to be done, and survives a kill.

The instances themselves are the truth about what was received: whatever lies in their folder and is
not in the queue is entered again when the node starts.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RunState = Literal["waiting", "predicting", "sending", "done", "dead"]
"""Results have them as well; "removed" are dead ones whose study is kept no longer."""

_TABLES = """
CREATE TABLE IF NOT EXISTS studies (
    uid TEXT PRIMARY KEY, arrived REAL, changed REAL, revision INTEGER, settled INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS instances (
    uid TEXT, study TEXT, sop_class TEXT, image INTEGER, PRIMARY KEY (study, uid));
CREATE INDEX IF NOT EXISTS instances_by_uid ON instances (uid);
CREATE TABLE IF NOT EXISTS runs (
    study TEXT, model TEXT, revision INTEGER, state TEXT, attempts INTEGER, due REAL, reason TEXT,
    PRIMARY KEY (study, model));
CREATE TABLE IF NOT EXISTS deliveries (
    instance TEXT, destination TEXT, sop_class TEXT, file TEXT, study TEXT, model TEXT, state TEXT,
    attempts INTEGER, due REAL, reason TEXT, PRIMARY KEY (instance, destination));
CREATE INDEX IF NOT EXISTS deliveries_by_run ON deliveries (study, model);
CREATE TABLE IF NOT EXISTS commitments (
    id INTEGER PRIMARY KEY, transaction_uid TEXT, title TEXT, instances TEXT, attempts INTEGER,
    due REAL);
"""

_FINISHED = (
    "SELECT uid FROM studies WHERE changed < ?1 AND settled = revision AND NOT EXISTS"
    " (SELECT 1 FROM runs WHERE study = studies.uid AND NOT"
    " (state = 'done' AND due < ?1 OR state = 'dead' AND due > 0 AND due < ?2))"
)
"""Query for studies with nothing left to do; `due` of a run that is over says since when.

Former versions wrote 0 for those given up: they stay, as they did.
"""


@dataclass(frozen=True)
class Run:
    """One model to be run on one study.

    Args:
        revision: how many instances, new or changed, the study has had.
        attempts: how many were begun, this one included.
    """

    study: str
    model: str
    revision: int
    attempts: int


@dataclass(frozen=True)
class Result:
    """A DICOM file that a model made, below the node's folder."""

    instance: str
    sop_class: str
    file: str


@dataclass(frozen=True)
class Delivery:
    """A result that a destination has not acknowledged yet."""

    result: Result
    destination: str
    study: str
    model: str
    attempts: int


@dataclass(frozen=True)
class Commitment:
    """A promise to keep instances, to be confirmed to who asked for it."""

    id: int
    transaction: str
    title: str
    instances: tuple[tuple[str, str], ...]
    """SOP class and instance of each."""
    attempts: int


@dataclass(frozen=True)
class StudyState:
    """One row of the status page."""

    study: str
    state: str
    images: int
    changed: float
    model: str
    attempts: int
    reason: str


class Queue:
    """The work that is left, by study, model and destination; safe to call from several threads.

    A commit survives the end of the process at any moment. A power cut may lose the last ones,
    which costs a repeated prediction or sending, of the same UIDs, and no image.
    """

    def __init__(self, path: Path) -> None:
        """Open the database, a new one with empty tables."""
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Make changes that are all kept or none."""
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield self._base
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _rows(self, query: str, *values: object) -> list[tuple[str, ...]]:
        with self._lock:
            return self._base.execute(query, values).fetchall()

    # --- what arrives

    def add_instance(
        self, study: str, instance: str, sop_class: str, *, image: bool, now: float
    ) -> None:
        """Enter an instance that is on the disk; an image makes its study wait, and run again."""
        with self._change() as base:
            base.execute(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?)",
                (instance, study, sop_class, image),
            )
            base.execute(
                "INSERT INTO studies (uid, arrived, changed, revision) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (uid) DO UPDATE SET revision = revision + excluded.revision,"
                " changed = iif(excluded.revision, excluded.changed, changed)",
                (study, now, now, int(image)),
            )

    def withdraw_instance(self, study: str, instance: str) -> None:
        """Forget an instance that is about to be replaced, until it is entered again."""
        with self._change() as base:
            base.execute("DELETE FROM instances WHERE study = ? AND uid = ?", (study, instance))

    def has_instance(self, study: str, instance: str) -> bool:
        """Return whether an instance is entered."""
        query = "SELECT 1 FROM instances WHERE study = ? AND uid = ?"
        return bool(self._rows(query, study, instance))

    def instances(self) -> set[tuple[str, str]]:
        """List study and UID of every instance."""
        return {(study, uid) for study, uid in self._rows("SELECT study, uid FROM instances")}

    def studies_of(self, instance: str, sop_class: str) -> list[str]:
        """List the studies that hold an instance."""
        query = "SELECT study FROM instances WHERE uid = ? AND sop_class = ?"
        return [study for (study,) in self._rows(query, instance, sop_class)]

    def is_own_result(self, instance: str) -> bool:
        """Return whether a model of this node made an instance."""
        return bool(self._rows("SELECT 1 FROM deliveries WHERE instance = ? LIMIT 1", instance))

    def images(self, study: str) -> tuple[str, ...]:
        """List the images of a study."""
        query = "SELECT uid FROM instances WHERE study = ? AND image ORDER BY uid"
        return tuple(uid for (uid,) in self._rows(query, study))

    # --- what is predicted

    def settle(self, models: Sequence[str], quiet_seconds: float, now: float) -> list[str]:
        """Let every model run on each study that was quiet for long enough and has new images.

        A study that is being predicted has to wait until that is over.
        """
        with self._change() as base:
            found = base.execute(
                "SELECT uid, revision FROM studies WHERE revision > settled AND changed <= ?"
                " AND uid NOT IN (SELECT study FROM runs WHERE state = 'predicting')",
                (now - quiet_seconds,),
            ).fetchall()
            for study, revision in found:
                base.executemany(
                    "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, 'waiting', 0, ?, '')",
                    [(study, model, revision, now) for model in models],
                )
                base.execute("UPDATE studies SET settled = ? WHERE uid = ?", (revision, study))
        return [study for study, _ in found]

    def take_run(self, models: Sequence[str], now: float) -> Run | None:
        """Take the run that is due for longest, as one more attempt."""
        with self._change() as base:
            row = base.execute(
                "SELECT runs.study, model, runs.revision, attempts FROM runs JOIN studies"
                " ON studies.uid = runs.study WHERE state = 'waiting' AND due <= ?"
                " AND settled = studies.revision AND model IN (SELECT value FROM json_each(?))"
                " ORDER BY due LIMIT 1",
                (now, json.dumps(models)),
            ).fetchone()
            if row is None:
                return None
            study, model, revision, attempts = row
            base.execute(
                "UPDATE runs SET state = 'predicting', attempts = attempts + 1"
                " WHERE study = ? AND model = ?",
                (study, model),
            )
        return Run(study, model, revision, attempts + 1)

    def finish_run(
        self, run: Run, results: Sequence[Result], destinations: Sequence[str], now: float
    ) -> None:
        """Record the results of a run, to be sent where they have not been acknowledged yet."""
        with self._change() as base:
            base.executemany(
                "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, 'sending', 0, ?, '')"
                " ON CONFLICT DO UPDATE SET state = 'sending', attempts = 0, file = excluded.file,"
                " due = excluded.due WHERE state != 'done'",
                [
                    (one.instance, name, one.sop_class, one.file, run.study, run.model, now)
                    for one in results
                    for name in destinations
                ],
            )
            base.execute(
                "UPDATE runs SET state = 'sending', reason = '' WHERE study = ? AND model = ?",
                (run.study, run.model),
            )
            _close_run(base, run.study, run.model, now)

    def end_run(self, run: Run, state: RunState, reason: str, *, at: float) -> None:
        """Record that a run gave no results: to be tried again `at` a time, or over since then."""
        with self._change() as base:
            base.execute(
                "UPDATE runs SET state = ?, reason = ?, due = ? WHERE study = ? AND model = ?",
                (state, reason, at, run.study, run.model),
            )

    def return_run(self, run: Run, now: float) -> None:
        """Give back a run that was stopped for no fault of its own: it was no attempt."""
        with self._change() as base:
            base.execute(
                "UPDATE runs SET state = 'waiting', attempts = attempts - 1, due = ?"
                " WHERE study = ? AND model = ?",
                (now, run.study, run.model),
            )

    def return_runs(self, due: float) -> None:
        """Give back the runs whose outcome could not be recorded: they were no attempts."""
        with self._change() as base:
            base.execute(
                "UPDATE runs SET state = 'waiting', attempts = attempts - 1, due = ?"
                " WHERE state = 'predicting'",
                (due,),
            )

    def resume(self, now: float) -> int:
        """Let runs that a crash interrupted wait again; each was an attempt.

        Senders were interrupted as well: their studies have to be quiet for as long from now on.
        """
        with self._change() as base:
            base.execute("UPDATE studies SET changed = ? WHERE revision > settled", (now,))
            return base.execute(
                "UPDATE runs SET state = 'waiting', due = ? WHERE state = 'predicting'", (now,)
            ).rowcount

    def retry_dead(self, now: float) -> int:
        """Let everything that was given up be tried again."""
        with self._change() as base:
            sent = base.execute(
                "UPDATE deliveries SET state = 'sending', attempts = 0, due = ?"
                " WHERE state = 'dead'",
                (now,),
            ).rowcount
            base.execute(
                "UPDATE runs SET state = 'sending', reason = '' WHERE state = 'dead' AND EXISTS"
                " (SELECT 1 FROM deliveries AS d WHERE d.study = runs.study"
                " AND d.model = runs.model AND d.state = 'sending')"
            )
            ran = base.execute(
                "UPDATE runs SET state = 'waiting', attempts = 0, due = ? WHERE state = 'dead'",
                (now,),
            ).rowcount
        return sent + ran

    # --- what is sent

    def take_delivery(self, destination: str, now: float) -> Delivery | None:
        """Take the delivery to a destination that is due for longest, as one more attempt.

        It stays due until `end_delivery`.
        """
        with self._change() as base:
            row = base.execute(
                "SELECT instance, sop_class, file, study, model, attempts FROM deliveries"
                " WHERE destination = ? AND state = 'sending' AND due <= ?"
                " ORDER BY due, rowid LIMIT 1",
                (destination, now),
            ).fetchone()
            if row is None:
                return None
            instance, sop_class, file, study, model, attempts = row
            base.execute(
                "UPDATE deliveries SET attempts = attempts + 1"
                " WHERE instance = ? AND destination = ?",
                (instance, destination),
            )
        result = Result(instance, sop_class, file)
        return Delivery(result, destination, study, model, attempts + 1)

    def end_delivery(
        self, delivery: Delivery, state: RunState, reason: str = "", *, at: float
    ) -> None:
        """Record that a result is to be sent again `at` a time, was acknowledged, or given up."""
        with self._change() as base:
            base.execute(
                "UPDATE deliveries SET state = ?, reason = ?, due = ?"
                " WHERE instance = ? AND destination = ?",
                (state, reason, at, delivery.result.instance, delivery.destination),
            )
            _close_run(base, delivery.study, delivery.model, at)

    # --- what was promised

    def add_commitment(
        self, transaction: str, title: str, instances: Sequence[tuple[str, str]], now: float
    ) -> None:
        """Enter a request to confirm that instances are kept."""
        with self._change() as base:
            base.execute(
                "INSERT INTO commitments (transaction_uid, title, instances, attempts, due)"
                " VALUES (?, ?, ?, 0, ?)",
                (transaction, title, json.dumps(instances), now),
            )

    def take_commitment(self, now: float) -> Commitment | None:
        """Take the confirmation that is due for longest, as one more attempt."""
        with self._change() as base:
            row = base.execute(
                "SELECT id, transaction_uid, title, instances, attempts FROM commitments"
                " WHERE due <= ? ORDER BY due LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            base.execute("UPDATE commitments SET attempts = attempts + 1 WHERE id = ?", (row[0],))
        pairs = tuple((one[0], one[1]) for one in json.loads(row[3]))
        return Commitment(row[0], row[1], row[2], pairs, row[4] + 1)

    def end_commitment(self, commitment: Commitment, *, due: float | None = None) -> None:
        """Forget a commitment, or let it be confirmed later."""
        with self._change() as base:
            if due is None:
                base.execute("DELETE FROM commitments WHERE id = ?", (commitment.id,))
            else:
                base.execute("UPDATE commitments SET due = ? WHERE id = ?", (due, commitment.id))

    # --- what is shown, and what goes

    def states(self, quiet_seconds: float, now: float, *, most: int = 200) -> list[StudyState]:
        """List the state of each study and model, the latest first."""
        rows = self._rows(
            "SELECT studies.uid, iif(revision > settled AND changed > ?, 'received',"
            " coalesce(state, 'received')), (SELECT count(*) FROM instances"
            " WHERE study = studies.uid AND image), changed, coalesce(model, ''),"
            " coalesce(attempts, 0), coalesce(reason, '') FROM studies LEFT JOIN"
            " (SELECT study, model, state, attempts, reason FROM runs) ON study = uid"
            " ORDER BY changed DESC LIMIT ?",
            now - quiet_seconds,
            most,
        )
        return [StudyState(*row) for row in rows]  # type: ignore[arg-type]  # SQLite's own types

    def counts(self) -> dict[str, dict[str, int]]:
        """Count studies' runs, deliveries by destination and state, and what is stored."""
        runs = self._rows("SELECT state, count(*) FROM runs GROUP BY state")
        waiting = self._rows("SELECT count(*) FROM studies WHERE revision > settled")
        sent = self._rows("SELECT destination || ' ' || state, count(*) FROM deliveries GROUP BY 1")
        stored = self._rows("SELECT count(*) FROM instances")
        return {
            "runs": {"received": int(waiting[0][0])} | {state: int(n) for state, n in runs},
            "deliveries": {key: int(n) for key, n in sent},
            "instances": {"stored": int(stored[0][0])},
        }

    def finished_studies(self, before: float, given_up_before: float) -> list[str]:
        """List studies with nothing left to do since a time; those given up have their own."""
        return [uid for (uid,) in self._rows(_FINISHED, before, given_up_before)]

    def forget_study(self, study: str, before: float, given_up_before: float) -> bool:
        """Remove a study if it still is finished; which results it had is remembered.

        Returns:
            Whether it was.
        """
        with self._change() as base:
            if (study,) not in base.execute(_FINISHED, (before, given_up_before)).fetchall():
                return False
            base.execute(
                "UPDATE deliveries SET state = 'removed' WHERE study = ? AND state = 'dead'",
                (study,),
            )
            base.execute("DELETE FROM studies WHERE uid = ?", (study,))
            base.execute("DELETE FROM instances WHERE study = ?", (study,))
            base.execute("DELETE FROM runs WHERE study = ?", (study,))
        return True


def _close_run(base: sqlite3.Connection, study: str, model: str, now: float) -> None:
    """Set a run that is being sent to done or dead when nothing is left to send."""
    base.execute(
        "UPDATE runs SET state = iif(EXISTS (SELECT 1 FROM deliveries WHERE study = ?1"
        " AND model = ?2 AND state = 'dead'), 'dead', 'done'), due = ?3"
        " WHERE study = ?1 AND model = ?2"
        " AND state = 'sending' AND NOT EXISTS (SELECT 1 FROM deliveries"
        " WHERE study = ?1 AND model = ?2 AND state = 'sending')",
        (study, model, now),
    )
