"""Parts of documents with their vectors, and open questions, in one file of SQLite.

sqlite-vec computes the distances; apsw brings a SQLite that may load it, which the sqlite3 module
of many Pythons may not. The search is exact: it compares with every part.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import apsw
import sqlite_vec

_TABLES = """
CREATE TABLE IF NOT EXISTS part (
    name TEXT PRIMARY KEY, document TEXT NOT NULL, number INTEGER NOT NULL,
    subject TEXT, text TEXT NOT NULL, vector BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS question (
    name TEXT PRIMARY KEY, text TEXT NOT NULL, most INTEGER NOT NULL,
    asked TEXT NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Near:
    """A part, and how far it is from a question: the cosine distance, 0 to 2."""

    document: str
    number: int
    subject: str | None
    text: str
    distance: float


class WrongDimension(Exception):
    """A vector has another length than those in the file; it is of another model."""


class Table:
    """Opened once. Raises apsw.Error where the file cannot be used."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = apsw.Connection(str(file))
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
        self._connection.enable_load_extension(False)
        self._connection.set_busy_timeout(5000)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(_TABLES)

    def add(self, name: str, document: str, number: int, subject: str | None, text: str) -> None:
        """Keep a part; its vector follows. The same part again changes nothing."""
        self._connection.execute(
            "INSERT INTO part (name, document, number, subject, text) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (name) DO NOTHING",
            (name, document, number, subject, text),
        )

    def has(self, name: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM part WHERE name = ?", (name,))
        return found.fetchone() is not None

    def set_vector(self, name: str, vector: list[float]) -> None:
        """Raises WrongDimension."""
        packed = self._pack(vector)
        self._connection.execute("UPDATE part SET vector = ? WHERE name = ?", (packed, name))

    def ask(self, name: str, text: str, most: int, asked: str) -> None:
        """Keep a question until its vector comes; `asked` is whatever the answer needs."""
        self._connection.execute(
            "INSERT INTO question VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (name, text, most, asked),
        )

    def question(self, name: str) -> tuple[str, int, str] | None:
        """The text, how many parts are wanted, and `asked`."""
        found = self._connection.execute(
            "SELECT text, most, asked FROM question WHERE name = ?", (name,)
        ).fetchone()
        return None if found is None else (str(found[0]), int(found[1]), str(found[2]))

    def nearest(self, vector: list[float], most: int) -> list[Near]:
        """Raises WrongDimension."""
        rows = self._connection.execute(
            "SELECT document, number, subject, text, vec_distance_cosine(vector, ?) AS distance "
            "FROM part WHERE vector IS NOT NULL ORDER BY distance, name LIMIT ?",
            (self._pack(vector), most),
        )
        return [Near(*row) for row in rows]  # type: ignore[arg-type]

    def _pack(self, vector: list[float]) -> bytes:
        found = self._connection.execute(
            "SELECT length(vector) FROM part WHERE vector IS NOT NULL LIMIT 1"
        ).fetchone()
        packed = struct.pack(f"{len(vector)}f", *vector)
        if found is not None and found[0] != len(packed):
            told = f"the vector has {len(vector)} numbers, those in the file {int(found[0]) // 4}"
            raise WrongDimension(told)
        return packed
