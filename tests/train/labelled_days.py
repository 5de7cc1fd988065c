"""A simulated day in a ledger, labelled, as a champion has judged it, with an alert on the slang in it."""

from __future__ import annotations

from moderation.posts import PostIn
from moderation.settings import Settings
from moderation.storage import drift, labelling
from moderation.storage.ledger import Ledger
from simulate.traffic import SimulatedPost, TrafficConfig, day_of_traffic
from tests.rooms import DAY, VARIANT, a_label, a_post, an_entry

SLANG_WORD = "drumvik"


def labelled_day(settings: Settings, traffic: TrafficConfig, *, flipped: bool = False) -> Ledger:
    """Day 1 of the traffic.

    Args:
        settings: whose ledger.
        traffic: of the simulation.
        flipped: True: the labels of the slang say the opposite of the truth.
    """
    ledger = Ledger(settings.ledger_url)
    posts = day_of_traffic(traffic, 1)
    scores = {"abuse": 0.1, "hate": 0.1}
    ledger.record([an_entry(post.post_id, _as_put(post), scores=scores) for post in posts])
    labels = [
        a_label(post.post_id, post.harmful != (flipped and post.slang), labelled_at=post.created_at) for post in posts
    ]
    assert labelling.add(ledger, dict(enumerate(labels, start=1))).accepted == len(posts)
    evidence = {"new_words": [{"word": SLANG_WORD, "authors": 20}]}
    drift.raise_alert(ledger, VARIANT, 1, window_to=DAY, evidence=evidence, reason="drift: words")
    return ledger


def _as_put(post: SimulatedPost) -> PostIn:
    return a_post(
        post.text, author_id=post.author_id, community=post.community, region=post.region, created_at=post.created_at
    )
