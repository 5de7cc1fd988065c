"""Which arm a unit is in: a hash of the experiment's salt and the unit, into 10,000 buckets.

The same author stays in one arm for the whole experiment, on every replica, without any memory; and a larger share only
ever adds buckets, so a ramp never takes a unit out of the challenger's arm.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypedDict

from moderation.storage.experiments import BUCKETS, Experiment

Arm = Literal["champion", "challenger"]


class Split(TypedDict):
    """What the gateway is told of a running experiment, in its `user_config`."""

    experiment: str
    salt: str
    buckets: int


def split_of(experiment: Experiment) -> Split:
    """The running experiment as the gateway needs it."""
    return Split(experiment=experiment.name, salt=experiment.salt, buckets=experiment.buckets)


def bucket_of(salt: str, unit: str) -> int:
    """A unit's bucket, in [0, 10,000).

    Example:
        >>> bucket_of("salt", "u-1") == bucket_of("salt", "u-1")
        True
        >>> len({bucket_of("salt", f"u-{number}") // 1000 for number in range(100)})
        10
    """
    digest = hashlib.sha256(f"{salt}|{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def arm_of(split: Split, unit: str) -> Arm:
    """A unit's arm.

    Example:
        >>> authors = [f"u-{number}" for number in range(1000)]
        >>> tenth, half = ({"experiment": "e", "salt": "s", "buckets": buckets} for buckets in (1000, 5000))
        >>> challenged = [{unit for unit in authors if arm_of(split, unit) == "challenger"} for split in (tenth, half)]
        >>> challenged[0] < challenged[1]  # a ramp only ever adds units
        True
    """
    return "challenger" if bucket_of(split["salt"], unit) < split["buckets"] else "champion"
