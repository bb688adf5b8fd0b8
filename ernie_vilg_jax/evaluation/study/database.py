"""The database of a study: one SQLite file (in WAL mode), or Postgres by its URL. All is in it, pictures as well."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.paths import is_url, local

TABLES = sql.MetaData()
SETTINGS = sql.Table(
    "settings",
    TABLES,
    sql.Column("name", sql.String(40), primary_key=True),
    sql.Column("value", sql.Text, nullable=False),  # JSON
)
MODELS = sql.Table(
    "models",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),  # 0 made the examples for practice
    sql.Column("name", sql.String(80), nullable=False, unique=True),
)
ITEMS = sql.Table(
    "items",
    TABLES,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("name", sql.String(100), nullable=False, unique=True),
    sql.Column("en", sql.Text, nullable=False),  # "" if the prompt is not in this language
    sql.Column("zh", sql.Text, nullable=False),
    sql.Column("category", sql.String(200), nullable=False),
)
PICTURES = sql.Table(
    "pictures",
    TABLES,
    sql.Column("id", sql.String(40), primary_key=True),  # random: it says nothing of the model
    sql.Column("item", sql.ForeignKey("items.id"), nullable=False),
    sql.Column("model", sql.ForeignKey("models.id"), nullable=False),
    sql.Column("place", sql.Integer, nullable=False),
    sql.Column("data", sql.LargeBinary, nullable=False),  # WebP
    sql.UniqueConstraint("item", "model", "place"),
)
RATERS = sql.Table(
    "raters",
    TABLES,
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),  # of `Design.trials`
    sql.Column("token", sql.String(40), nullable=False, unique=True),  # of the personal link
    sql.Column("name", sql.String(80), nullable=False),  # what the rater typed; may be ""
    sql.Column("language", sql.String(2), nullable=False),  # of the pages
    sql.Column("started", sql.Boolean, nullable=False),
)
TRIALS = sql.Table(
    "trials",
    TABLES,
    sql.Column("rater", sql.ForeignKey("raters.number"), primary_key=True),
    sql.Column("position", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("kind", sql.String(8), nullable=False),
    sql.Column("item", sql.ForeignKey("items.id"), nullable=False),
    *(
        sql.Column(f"{side}_{what}", sql.Integer, nullable=False)
        for side in ("left", "right")
        for what in ("item", "model")
    ),
    *(sql.Column(f"expected_{aspect}", sql.String(5), nullable=False) for aspect in ("alignment", "fidelity")),
)
ANSWERS = sql.Table(
    "answers",
    TABLES,
    sql.Column("rater", sql.Integer, primary_key=True, autoincrement=False),
    # Question 2n is the alignment of the trial at position n, 2n + 1 its fidelity.
    sql.Column("question", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("choice", sql.String(5), nullable=False),
    sql.Column("language", sql.String(2), nullable=False),  # in which the prompt was read
    sql.Column("milliseconds", sql.Integer),  # as the page measured it; NULL without JavaScript
    sql.Column("changes", sql.Integer, nullable=False),
    sql.Column("time", sql.String(20), nullable=False),  # UTC, ISO 8601
    sql.ForeignKeyConstraint(["rater"], ["raters.number"]),
    sql.CheckConstraint("choice IN ('left', 'same', 'right')"),
)


class Database:
    """Connections to a study. Safe to share between threads."""

    def __init__(self, place: str | Path, *, create: bool = False) -> None:
        """Opens a file or a URL of Postgres.

        Args:
          create: makes the tables, and the file.

        Raises UserError if it cannot be reached, and if there is no study in it unless `create`.
        """
        self.place = str(place)
        self._engine = self._connect(create)
        with self._reached():
            if create:
                TABLES.create_all(self._engine)
            elif not sql.inspect(self._engine).has_table("settings") or not self.settings():
                raise UserError(f"{self.place} holds no study: make one with `human_study create {self.place}`")

    def _connect(self, create: bool) -> sql.Engine:
        if not is_url(self.place):
            file = local(self.place, "study")
            if not create and not file.is_file():
                raise UserError(f"{file}: there is no such study; make one with `human_study create {file}`")
            engine = sql.create_engine(
                sql.URL.create("sqlite", database=str(file)), connect_args={"timeout": 30, "isolation_level": None}
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        scheme, _, rest = self.place.partition("://")
        if scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
            raise UserError(f"{scheme}://: a study is a file for SQLite, or postgresql://USER:PASSWORD@HOST/DATABASE")
        try:
            return sql.create_engine(f"postgresql+psycopg://{rest}", pool_size=20, max_overflow=20, pool_pre_ping=True)
        except (ModuleNotFoundError, ValueError, exc.ArgumentError) as error:
            raise UserError(
                f"{scheme}://... cannot be used ({first_line(error)}); Postgres needs pip install 'psycopg[binary]'"
            ) from error

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            shown = self.place.rpartition("@")[2]  # no password
            raise UserError(f"{shown}: not a database that can be used ({first_line(error.orig or error)})") from error

    @contextlib.contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """A transaction that only reads."""
        with self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """A transaction that writes; on the disk when it ends. In SQLite one at a time, from its beginning."""
        with self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection

    def settings(self) -> dict[str, Any]:
        """All settings of the study; empty if there is none."""
        with self.reading() as connection:
            return {name: json.loads(value) for name, value in connection.execute(sql.select(SETTINGS))}

    def insert(self, table: sql.Table) -> "sqlite.Insert | postgresql.Insert":
        """An INSERT that knows ON CONFLICT, which both databases have."""
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, record: Any) -> None:
    """Readers do not wait for the writer, and what is committed survives a crash of the machine."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    # A transaction that begins by reading cannot always be turned into one that writes: it would fail as "busy".
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
