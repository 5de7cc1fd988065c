"""Labels count for their authors and communities: after the reply, as whatever is derived from the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from moderation.errors import FeaturesUnavailableError
from moderation.storage.features import labels_observed
from serve.context import GatewayContext

logger = logging.getLogger("ray.serve")


def count_labels(here: GatewayContext, ids: Sequence[str]) -> None:
    """Count labels that may have been recorded; blocking. Where the store fails, they wait for a rebuild.

    Args:
        here: what the replica holds.
        ids: of the labels; those that were not recorded, or are counted already, change nothing.
    """
    try:
        here.known.observe_labels(labels_observed(here.ledger, ids))
    except FeaturesUnavailableError:
        logger.exception("%d labels are not counted until the features are rebuilt", len(ids))
