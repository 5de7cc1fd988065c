"""A judged post becomes a decision, and all that is recorded with it: links, policy, and whether people are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from moderation.policy import PolicyDecision
from moderation.posts import Decision, LanguageDecision, LinkDecision, PostIn, ReviewDecision
from moderation.preprocess.links import check_links, find_links
from moderation.review import item_for
from moderation.storage.ledger import Entry, now
from moderation.topology import Topology
from serve.posts import ensemble
from serve.posts.cases import Case
from serve.posts.work import work_of


@dataclass(slots=True)
class Task:
    """One post on its way through a group.

    Attributes:
        post_id: chosen by the platform.
        post: its content.
        content_hash: of that.
        received_at: when it came.
        started: likewise, of `time.perf_counter`.
        acts: False: a text to learn from; nothing is done with it.
        again: True: it was decided before, while a model was away.
        begun: whether a group has it, so that it will be recorded whoever waits for it.
    """

    post_id: str
    post: PostIn
    content_hash: str
    received_at: datetime
    started: float
    acts: bool = True
    again: bool = False
    begun: bool = False

    @property
    def work(self) -> int:
        """How much it is to judge its text, in characters."""
        return work_of(self.post.text)

    @property
    def media_work(self) -> int:
        """How much it is to decode its media, in megapixels."""
        return max(1, sum(medium.work for medium in self.post.media))


@dataclass(frozen=True, slots=True)
class CheckedLinks:
    """A post's links.

    Attributes:
        links: that were checked.
        unexamined: how many there are beyond the bound.
    """

    links: list[LinkDecision]
    unexamined: int


def links_of(case: Case, topology: Topology) -> CheckedLinks:
    """The links of all that a reader of a post sees of text, also of what is written in its pictures; blocking."""
    text = "\n".join(filter(None, [case.post.text, *map(ensemble.text_in, case.media)]))
    found = find_links(text, topology.blocklist)
    checked = check_links(found, topology.blocklist, topology.link_rules)
    links = [
        LinkDecision(url=link.url, domain=link.domain, verdict=link.verdict, reasons=list(link.reasons))
        for link in checked
    ]
    return CheckedLinks(links, len(found) - len(checked))


def entry_of(
    task: Task,
    case: Case,
    links: CheckedLinks,
    *,
    topology: Topology,
    blown: Sequence[str],
    exempt: bool,
    draw: Callable[[], float],
) -> Entry:
    """What is recorded of a post, its decision first.

    Args:
        task: the post.
        case: what the models say of it.
        links: that it holds.
        topology: policy, bounds, rules of review.
        blown: labels whose fuse has blown in the post's region.
        exempt: whether this content was restored on appeal.
        draw: a chance in [0, 1), by which posts are drawn for review.
    """
    decided_at = now()
    post = task.post
    verdict = topology.policy.decide(
        ensemble.scored_parts(case, topology),
        region=post.region,
        links=links.links,
        now=decided_at,
        unexamined_links=links.unexamined,
        review_shorteners=topology.links.review_shorteners,
        blown=blown,
        has_media=bool(case.media),
        partly_seen=ensemble.partly_seen(case, topology.media.review_below),
    )
    if exempt:
        verdict = replace(verdict, decision="allow", mode="reactive", review=ReviewDecision(queued=False))
    decision = _decision(task, case, links, verdict, decided_at, version=topology.policy.version, exempt=exempt)
    rules = topology.policy.rules(post.region)
    item = item_for(decision, community=post.community, rules=rules, review=topology.review, draw=draw)
    return Entry(
        post=post,
        content_hash=task.content_hash,
        decision=decision,
        features=case.features,
        scorings=ensemble.scorings(case),
        received_at=task.received_at,
        item=item,
        acts=task.acts,
        again=task.again,
        actor="fuse" if verdict.diverted else "model",
        removed_for=() if exempt else verdict.removed_for,
    )


def _decision(
    task: Task, case: Case, links: CheckedLinks, verdict: PolicyDecision, at: datetime, *, version: str, exempt: bool
) -> Decision:
    """As the platform is told it."""
    return Decision(
        post_id=task.post_id,
        content_version=1,
        decision=verdict.decision,
        mode=verdict.mode,
        degraded=verdict.degraded,
        labels=verdict.labels,
        language=_language(case),
        links=links.links,
        media=ensemble.media_decisions(case.media),
        evidence=ensemble.evidence(case.media),
        review=verdict.review,
        experiments=ensemble.experiments(case),
        policy_version=version,
        models=ensemble.models(case),
        decided_at=at,
        latency_ms=round((time.perf_counter() - task.started) * 1000, 1),
        exempt=exempt,
    )


def _language(case: Case) -> LanguageDecision:
    language = case.language
    return LanguageDecision(
        code=language.code,
        confidence=language.confidence,
        in_training=any(
            found.ask.service == "text" and found.card and language.code in found.card.languages
            for found in case.judged
        ),
        likely=list(language.likely),
    )
