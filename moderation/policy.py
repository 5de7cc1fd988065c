"""Scores and a region's thresholds -> an action. The rules are data in deployments/policies/*.yaml."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from moderation.errors import ConfigError
from moderation.labels import BY_NAME, LABELS, Label, Modality, Mode, Service, Severity
from moderation.models.operating import Objective, OperatingCurve
from moderation.posts import HeldBack, LabelDecision, LinkDecision, PartDecision, ReviewDecision
from moderation.preprocess.language import UNDETERMINED
from moderation.yaml_files import read_yaml, validated

LINK_DEADLINE = timedelta(hours=24)
"""Until when a person looks at a post that is queued for a link alone."""
MAX_DEADLINE_H = 720.0
"""Thirty days."""

ObjectiveText = Annotated[str, AfterValidator(lambda text: str(Objective.parse(text)))]
DeadlineHours = Annotated[float, Field(gt=0, le=MAX_DEADLINE_H)]
RegionCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Rule(_Strict):
    """What is done about one label. Severity, mode and deadline are the taxonomy's where a policy says nothing."""

    severity: Severity
    """How much harm one impression does: orders the review queue."""
    mode: Mode
    """`proactive`: a flagged post is not shown until a person decides. `reactive`: it is shown meanwhile."""
    deadline_h: DeadlineHours
    """Hours from the decision to a person's verdict, where one is asked for; 0.5 is half an hour."""
    objective: ObjectiveText
    """`precision>=P` or `recall>=R`, in (0, 1): the threshold is chosen to meet it. A precision that none meets flags
    nothing; of a recall that none meets it is the lowest threshold, and nothing is removed by it."""
    prevalence: float = Field(gt=0, lt=1)
    """Share of posts with this harm in the traffic, for which precision is reckoned: labelled sets hold far more."""
    action: Literal["remove", "review"]
    """For a flagged post."""
    remove_objective: ObjectiveText | None = None
    """With `action: review`: posts beyond this stricter threshold are flagged and removed."""
    review_objective: ObjectiveText | None = None
    """Posts between this threshold and the one of `objective` are queued."""
    on_failure: Literal["allow", "review", "hold"]
    """What a score that should be there and is not means; `hold`: not shown until a person decides."""
    untrained: Literal["ignore", "review"] = "review"
    """Whether a person is asked about a flagged post in a language in which the model did not learn the label; where
    nobody can tell the language, one is. Nothing is removed or hidden for it there, nor where few rows show how well it
    works (`models.card.PROVEN_ROWS`)."""

    @property
    def deadline(self) -> timedelta:
        """`deadline_h`, as a taxonomy's `Label` has it."""
        return timedelta(hours=self.deadline_h)


class _RuleChange(_Strict):
    severity: Severity | None = None
    mode: Mode | None = None
    deadline_h: DeadlineHours | None = None
    objective: ObjectiveText | None = None
    prevalence: float | None = Field(default=None, gt=0, lt=1)
    action: Literal["remove", "review"] | None = None
    remove_objective: ObjectiveText | None = None
    review_objective: ObjectiveText | None = None
    on_failure: Literal["allow", "review", "hold"] | None = None
    untrained: Literal["ignore", "review"] | None = None


class PolicyFile(_Strict):
    """A policy file as operators write it; `Policy` is what it comes to. docs/configuration.md is made of it."""

    version: str = Field(min_length=1, max_length=64)
    """Stands in each decision, with 8 digits of the file's SHA-256 behind it."""
    labels: dict[str, _RuleChange]
    """A rule for each label that a model scores."""
    regions: dict[RegionCode, dict[str, _RuleChange]] = Field(default_factory=dict)
    """By ISO 3166-1 alpha-2 code: rules of which a region changes fields, and keeps the others."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What came back of one part of a post for one label.

    Attributes:
        score: confidence in [0, 1]; None: there is none.
        curve: the operating curve of the model version that scored.
        service: that judged it.
        media: index of the medium; None: the post's own text.
        input_type: what the part is.
        reason: why there is no score.
        failed: whether there should have been one.
        language: that it was judged in; None: it is no text.
        learned: whether the model learned the label in that language.
        proven: whether rows enough show how well the label works in that language.
        quotes: whether some of the words are quoted: what these come to is a person's to decide.
        own: whether these are a text's own words, without what it quotes.
        partly_read: whether some of it was not read, since it is too long.
    """

    score: float | None
    curve: OperatingCurve | None
    service: Service = "text"
    media: int | None = None
    input_type: Modality = "text"
    reason: str | None = None
    failed: bool = True
    language: str | None = None
    learned: bool = True
    proven: bool = True
    quotes: bool = False
    own: bool = False
    partly_read: bool = False

    @property
    def held_back(self) -> HeldBack | None:
        """Why it neither removes nor hides a post, whatever its score; None: it may."""
        if not self.learned:
            return "untrained"
        return "unproven" if not self.proven else "quotation" if self.quotes else None


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What the policy makes of a post's scores."""

    decision: Literal["allow", "review", "remove"]
    mode: Mode
    degraded: bool
    labels: dict[str, LabelDecision]
    review: ReviewDecision
    removed_for: tuple[str, ...] = ()
    """Labels that ask for a removal without a person, also where the fuse keeps it back."""
    diverted: bool = False
    """Whether the fuse kept a removal back."""


class Policy:
    """A policy file, read and checked.

    Attributes:
        version: the file's version and 8 digits of its content's SHA-256: an edit without a new version shows.

    Example:
        >>> from datetime import UTC
        >>> from moderation.settings import DEPLOYMENTS
        >>> policy = Policy.load(DEPLOYMENTS / "policies" / "default.yaml")
        >>> str(policy.objective("abuse")), str(policy.objective("abuse", "DE"))
        ('precision>=0.3', 'precision>=0.2')
        >>> rates = {"recall": (0.9, 0.6), "false_positive_rate": (0.05, 0.001)}
        >>> curve = OperatingCurve(thresholds=(0.5, 0.9), **rates, positives=100, negatives=1000)
        >>> noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
        >>> for score in (0.2, 0.6, 0.95):
        ...     policy.decide({"abuse": [Scored(score, curve)]}, region="US", links=[], now=noon).decision
        'allow'
        'review'
        'remove'
    """

    def __init__(self, rules: Mapping[str, Rule], regions: Mapping[str, Mapping[str, Rule]], version: str) -> None:
        self.version = version
        self._rules = rules
        self._regions = regions

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy file.

        Raises:
            ConfigError: it cannot be read, or a field is wrong; names the field's path.
        """
        raw, text = read_yaml(path)
        parsed = validated(PolicyFile, raw, path)
        labels: dict[str, Rule] = {}
        for name, given in parsed.labels.items():
            if name not in BY_NAME:
                raise ConfigError(f"{path.name}: labels.{name}", f"unknown label; known are {', '.join(BY_NAME)}")
            rule = _taxonomy(BY_NAME[name]) | given.model_dump(exclude_unset=True)
            labels[name] = validated(Rule, rule, path, f"labels.{name}")
        regions: dict[str, dict[str, Rule]] = {}
        for region, changes in parsed.regions.items():
            regions[region] = dict(labels)
            for name, change in changes.items():
                if name not in labels:
                    raise ConfigError(f"{path.name}: regions.{region}.{name}", "has no rule under labels to change")
                changed = labels[name].model_dump() | change.model_dump(exclude_unset=True)
                regions[region][name] = validated(Rule, changed, path, f"regions.{region}.{name}")
        _check_removals(labels, f"{path.name}: labels")
        for region, rules in regions.items():
            _check_removals(rules, f"{path.name}: regions.{region}")
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return cls(labels, regions, f"{parsed.version}+{digest}")

    def rules(self, region: str) -> Mapping[str, Rule]:
        """The rules that hold in a region."""
        return self._regions.get(region, self._rules)

    def objective(self, label: str, region: str = "*") -> Objective:
        """What a label's threshold is chosen for.

        Raises:
            ConfigError: the policy has no rule for the label.
        """
        rule = self.rules(region).get(label)
        if rule is None:
            raise ConfigError(f"policy {self.version}: labels", f"no rule for {label!r}")
        return Objective.parse(rule.objective)

    def decide(
        self,
        scores: Mapping[str, Sequence[Scored]],
        *,
        region: str,
        links: Sequence[LinkDecision],
        now: datetime,
        unexamined_links: int = 0,
        review_shorteners: bool = True,
        blown: Collection[str] = (),
        has_media: bool = False,
        partly_seen: Sequence[str] = (),
    ) -> PolicyDecision:
        """Decide on one post.

        Args:
            scores: per label that a model should have scored, what came back of each part of the post; labels without
                an entry are `not_scored`.
            region: ISO 3166-1 alpha-2.
            links: as checked; a blocked or suspicious one queues the post.
            now: when the decision is made; deadlines run from it.
            unexamined_links: links of the post beyond those; any queue it.
            review_shorteners: whether a link that hides where it leads queues the post.
            blown: labels whose fuse has blown: what would be removed for them alone is held for a person.
            has_media: whether there are images or videos: tells what is missing where nothing was scored.
            partly_seen: why media that were not looked at as a whole queue the post; none: they do not.
        """
        rules = self.rules(region)
        missing = {label: "no_model" if has_media or "text" in label.modalities else "no_media" for label in LABELS}
        results = {
            label: _judge(label, scores.get(label.name, ()), rules.get(label.name), missing[label]) for label in LABELS
        }
        queued = {label: result.queue for label, result in results.items() if result.queue is not None}
        reasons = list(queued.values())
        reasons += _link_reasons(links, unexamined_links, review_shorteners=review_shorteners)
        reasons += partly_seen
        removed_for = [label for label, result in results.items() if result.remove]
        diverted = bool(removed_for) and all(label.name in blown for label in removed_for)
        if diverted:
            reasons = [f"the fuse of {label.name} in {region} has blown" for label in removed_for] + reasons
        removing = bool(removed_for) and not diverted
        proactive = diverted or any(result.hold for result in results.values())
        reviewing = bool(reasons) and not removing
        deadline = min((rules[label.name].deadline for label in (*queued, *removed_for)), default=LINK_DEADLINE)
        return PolicyDecision(
            decision="remove" if removing else "review" if reviewing else "allow",
            mode="proactive" if proactive else "reactive",
            degraded=any(result.failed for result in results.values()),
            labels={label.name: result.decision for label, result in results.items()},
            review=ReviewDecision(
                queued=reviewing, deadline=now + deadline if reviewing else None, reasons=reasons if reviewing else []
            ),
            removed_for=tuple(label.name for label in removed_for),
            diverted=diverted,
        )


@dataclass(frozen=True, slots=True)
class _LabelResult:
    """One label, judged on one part or on all: what the decision says of it, and what it asks for."""

    decision: LabelDecision
    remove: bool = False
    hold: bool = False
    queue: str | None = None
    failed: bool = False

    @property
    def gravity(self) -> tuple[bool, bool, bool, float]:
        """Orders the parts of a post: the surest decides. Another part can make a decision graver, never milder."""
        return self.remove, self.decision.flagged, self.queue is not None, self.decision.score or 0.0


def _judge(label: Label, parts: Sequence[Scored], rule: Rule | None, missing: str) -> _LabelResult:
    """All parts of a post. What failed counts beside what was scored: it might have held what the others do not."""
    if not parts or rule is None:
        return _LabelResult(LabelDecision(status="not_scored", reason="no_rule" if parts else missing))
    results = [_judge_part(label, part, rule) for part in parts]
    scored = [result for result in results if result.decision.status == "scored"]
    failed = [result for result in results if result.failed]
    surest = max(scored, key=lambda result: result.gravity) if scored else (failed or results)[0]
    decision = surest.decision.model_copy(update={"partly_read": any(part.partly_read for part in parts)})
    if len(parts) > 1 or parts[0].media is not None:
        read = {part.input_type: None for part in parts if part.score is not None}
        decision = decision.model_copy(
            update={
                "input_types": list(read) if scored else decision.input_types,
                "parts": [_part_decision(part, result) for part, result in zip(parts, results, strict=True)],
            }
        )
    return _LabelResult(
        decision,
        remove=surest.remove,
        hold=any(result.hold for result in results),
        queue=surest.queue or next((result.queue for result in failed if result.queue), None),
        failed=bool(failed),
    )


def _part_decision(part: Scored, result: _LabelResult) -> PartDecision:
    decision = result.decision
    return PartDecision(
        service=part.service,
        media=part.media,
        language=part.language,
        own_words=part.own,
        status=decision.status,
        score=decision.score,
        threshold=decision.threshold,
        flagged=decision.flagged,
        reason=decision.reason,
        held_back=decision.held_back,
        partly_read=decision.partly_read,
    )


def _judge_part(label: Label, part: Scored, rule: Rule) -> _LabelResult:
    if part.score is None:
        decision = LabelDecision(
            status="failed" if part.failed else "not_scored",
            input_types=[part.input_type],
            objective=rule.objective,
            reason=part.reason,
        )
        if not part.failed:
            return _LabelResult(decision)
        return _LabelResult(
            decision,
            hold=rule.on_failure == "hold",
            queue=None if rule.on_failure == "allow" else f"{label.name} failed to score",
            failed=True,
        )
    threshold = threshold_of(part.curve, rule.objective, rule.prevalence)
    acts = part.held_back is None
    remove_threshold = removal_threshold(part.curve, rule) if acts else None
    remove = remove_threshold is not None and part.score >= remove_threshold
    learned = part.learned or part.language == UNDETERMINED  # or may have been
    lowest = flagged_from(part.curve, rule, learned=learned)
    flagged = lowest is not None and part.score >= lowest
    decision = LabelDecision(
        status="scored",
        score=part.score,
        threshold=threshold,
        remove_threshold=remove_threshold,
        flagged=flagged,
        input_types=[part.input_type],
        objective=rule.objective,
        language=part.language,
        in_training=None if part.language is None else part.learned,
        held_back=part.held_back,
        partly_read=part.partly_read,
    )
    if flagged:
        hold = acts and rule.mode == "proactive"
        queue = None if remove else f"{label.name} is flagged{_BECAUSE[part.held_back]}"
        return _LabelResult(decision, remove=remove, hold=hold, queue=queue)
    if rule.review_objective is not None and (
        part.learned or part.language == UNDETERMINED or rule.untrained == "review"
    ):
        lower = threshold_of(part.curve, rule.review_objective, rule.prevalence)
        if lower is not None and part.score >= lower:
            return _LabelResult(decision, queue=f"{label.name} is uncertain")
    return _LabelResult(decision)


_BECAUSE: Mapping[HeldBack | None, str] = {
    None: "",
    "untrained": " in a language in which that was not learned",
    "unproven": " in a language in which too little shows how well that works",
    "quotation": " in a text that quotes",
}


def _taxonomy(label: Label) -> dict[str, object]:
    """What of a rule the taxonomy says."""
    return {"severity": label.severity, "mode": label.mode, "deadline_h": label.deadline / timedelta(hours=1)}


def urgency_of(label: str, rules: Mapping[str, Rule]) -> Rule | Label:
    """What says a label's severity, mode and deadline: its rule or, where it has none, the taxonomy."""
    return rules.get(label) or BY_NAME[label]


def _check_removals(rules: Mapping[str, Rule], where: str) -> None:
    for name, rule in rules.items():
        if rule.action == "remove" and rule.remove_objective is not None:
            problem = f"is {rule.remove_objective!r}, but `action: remove` removes every flagged post already"
            raise ConfigError(f"{where}.{name}.remove_objective", problem)
        if not BY_NAME[name].removable and (rule.action == "remove" or rule.remove_objective is not None):
            raise ConfigError(f"{where}.{name}", "is a label that no post is removed for without a person")


def _link_reasons(links: Sequence[LinkDecision], unexamined: int, *, review_shorteners: bool) -> list[str]:
    """Why links queue a post, each reason once."""
    reasons: dict[str, None] = {}
    for link in links:
        if link.verdict == "blocked":
            reasons[f"link to {link.domain} is blocked"] = None
        elif link.verdict == "suspicious":
            why = f": {link.reasons[0]}" if link.reasons else ""
            reasons[f"link to {link.domain} is suspicious{why}"] = None
        elif link.verdict == "shortener" and review_shorteners:
            reasons[f"link to {link.domain} hides where it leads"] = None
    if unexamined:
        reasons[f"{len(links) + unexamined} links are a flood, only {len(links)} were examined"] = None
    return list(reasons)


@lru_cache(maxsize=4096)
def threshold_of(curve: OperatingCurve | None, objective: str, prevalence: float) -> float | None:
    """The threshold that a rule comes to on a model's curve, as `OperatingCurve.threshold_for` has it."""
    return None if curve is None else curve.threshold_for(Objective.parse(objective), prevalence=prevalence)


@lru_cache(maxsize=4096)
def is_met(curve: OperatingCurve | None, objective: str, prevalence: float) -> bool:
    """Whether some threshold of a model's curve meets an objective."""
    return curve is not None and curve.meets(Objective.parse(objective), prevalence=prevalence)


def removal_threshold(curve: OperatingCurve | None, rule: Rule) -> float | None:
    """From which on a rule removes a post; None: never, as where no threshold meets what it removes by."""
    objective = rule.objective if rule.action == "remove" else rule.remove_objective
    if objective is None or not is_met(curve, objective, rule.prevalence):
        return None
    return threshold_of(curve, objective, rule.prevalence)


def flagged_from(curve: OperatingCurve | None, rule: Rule, *, learned: bool = True) -> float | None:
    """The lowest score that a rule flags: what meets its objective, and what is removed; None: no score is flagged.

    Args:
        curve: of the label.
        rule: of the label.
        learned: whether the label was learned in the language, or may have been: nobody can tell which it is.
    """
    if not learned and rule.untrained == "ignore":
        return None
    bounds = threshold_of(curve, rule.objective, rule.prevalence), removal_threshold(curve, rule)
    return min((bound for bound in bounds if bound is not None), default=None)
