"""SQL that SQLite and PostgreSQL write differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Float, FromClause, Text, func, type_coerce
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Seconds(FunctionElement[float]):
    """Seconds from one time column to another: `Seconds(begin, end)`."""

    type = Float()
    inherit_cache = True
    name = "seconds"


@compiles(Seconds, "sqlite")
def _sqlite(element: Seconds, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    # Days as doubles are good to some 40 microseconds.
    return f"((julianday({end}) - julianday({begin})) * 86400.0)"


@compiles(Seconds, "postgresql")
def _postgresql(element: Seconds, compiler: SQLCompiler, **options: Any) -> str:
    begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"CAST(EXTRACT(EPOCH FROM ({end} - {begin})) AS DOUBLE PRECISION)"


def elements(connection: Connection, array: ColumnElement[Any]) -> tuple[FromClause, ColumnElement[str]]:
    """The texts of a JSON array, a row each: what to add to FROM, after the array's table, and the text's column."""
    each = func.json_each if connection.dialect.name == "sqlite" else func.json_array_elements_text
    rows = each(array).table_valued("value", joins_implicitly=True)
    return rows, type_coerce(rows.c.value, Text())
