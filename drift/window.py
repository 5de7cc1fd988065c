"""The logged features of a window of traffic, as Evidently compares them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from drift import novelty
from moderation.context import Context
from moderation.preprocess.features import CATEGORICAL, NUMERIC
from moderation.storage.lake import Lake

_GRID = datetime(1970, 1, 1, tzinfo=UTC)


def last_full(at: datetime, length: timedelta) -> datetime:
    """End of the last window that is over, on a grid that does not depend on when it is asked for.

    Checks that are made daily, a little early or late, then see windows that join and never overlap.

    Args:
        at: aware.
        length: of a window; the grid's windows follow one another from 1970-01-01T00:00Z on, so those of 24 hours end
            at midnight UTC.

    Example:
        >>> last_full(datetime(2026, 11, 24, 15, 30, tzinfo=UTC), timedelta(hours=24)).isoformat()
        '2026-11-24T00:00:00+00:00'
    """
    return at.astimezone(UTC) - (at - _GRID) % length


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """A window of what a variant judged, and who was its champion: read once, and passed on.

    Attributes:
        variant: that judged.
        champion: its version, when this was read.
        begin: of the window: posts created from then on.
        end: of the window, excluded.
        posts: that any version judged; schema `moderation.storage.lake.SCHEMAS["posts"]`.
        lake: where they lie, and references beside them.
    """

    variant: str
    champion: int
    begin: datetime
    end: datetime
    posts: pa.Table
    lake: Lake

    def of_champion(self) -> pa.Table:
        """What the champion judged itself; the scores of others (a challenger's arm) are not comparable."""
        return self.posts.filter(pc.equal(self.posts["model_version"], self.champion))


def read_traffic(context: Context, variant: str, begin: datetime, end: datetime) -> Traffic:
    """Export what the lake lacks, and read the posts created in [begin, end) that a variant judged.

    Raises:
        RegistryError: the variant has no champion.
    """
    champion = context.registry.champion(variant)
    lake = Lake(context.settings.lake_url)
    lake.export(context.ledger)
    posts = lake.posts_between(begin, end, variant=variant)
    return Traffic(variant=variant, champion=champion, begin=begin, end=end, posts=posts, lake=lake)


def logged_features(table: pa.Table) -> pd.DataFrame:
    """The features of posts, as they were logged at request time; rows as in the table."""
    return pd.DataFrame([json.loads(line) for line in table["features"].to_pylist()])


def columns_of(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Numeric and categorical columns to compare: the fixed features, the score of each label, the new words."""
    scores = sorted(name for name in frame.columns if name.startswith("score_"))
    numeric = [name for name in (*NUMERIC, *scores, novelty.COLUMN) if name in frame]
    return numeric, [name for name in CATEGORICAL if name in frame]
