"""`make loop`: days of simulated traffic against a running Seawall, through its HTTP and its commands alone.

A slang that the champion has never seen arrives on day 3. Scripted reviewers look at every flagged post and at a random
share of the others, users report some of what they see, and whoever watches the commands does the rest: check drift,
answer the retrain request a day after its alert, start, ramp and judge an experiment, promote.

Three scenarios:

    slang    recall falls when the slang comes and is back after the promotion
    calm     the slang never comes: no alert, nothing is retrained
    flipped  the slang comes, and its labels are wrong: the gate refuses

Prevalence is raised to 8 % ordinary abuse and 10 % slang, so that one day's recall means something. Recall and
precision in the table are of the decisions as they were answered, against the simulation's truth, which the commands
never see.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer
from rich.table import Table

from moderation.console import out as console
from moderation.settings import DEPLOYMENTS
from simulate.service import PATIENT_S, Service, running_service
from simulate.traffic import SimulatedPost, TrafficConfig, day_of_traffic

Name = Literal["slang", "calm", "flipped"]

VARIANT = "text-multi"
PROBE = "honestly you absolute drumvik, every thread you touch gets worse"
CONNECTIONS = 16
LIGHT = DEPLOYMENTS / "light.yaml"
DAYS: dict[Name, int] = {"slang": 9, "calm": 6, "flipped": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewConfig:
    """What people do."""

    audit: float = 0.5
    """Probability with which a post that is not flagged is drawn for labelling."""
    reported: float = 0.4
    """Share of the harmful posts let through that a user reports."""
    error: float = 0.02
    """Share of verdicts that are wrong."""


@dataclass(slots=True)
class Day:
    """What happened on a day."""

    day: int
    posts: int = 0
    recall: float = float("nan")
    recall_ordinary: float = float("nan")
    recall_slang: float | None = None
    precision: float = float("nan")
    challenger_share: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    drift: str = ""
    events: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, mark: str, event: str) -> None:
        """Keep what happened in the evening: in a word or two for the plot, whole for the table."""
        self.marks.append(mark)
        self.events.append(event)


class Scenario:
    """One run.

    Args:
        name: which scenario.
        service: that runs, with an empty ledger.
        traffic: of the simulation.
        review: of the people.
    """

    def __init__(self, name: Name, service: Service, traffic: TrafficConfig, review: ReviewConfig) -> None:
        self.name = name
        self.url = service.url
        self.seawall = service.ask
        self.traffic = traffic
        self.review = review
        self.days: list[Day] = []
        self.retrains: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.promoted: dict[str, Any] | None = None
        self.failed_requests = 0
        self._share = 0.0

    def run_day(self, number: int) -> Day:
        """Traffic, labels, and what whoever is on duty does in the evening."""
        begun = time.monotonic()
        day = Day(number, challenger_share=self._share)
        self.days.append(day)
        posts = day_of_traffic(self.traffic, number)
        decisions = asyncio.run(self._put(posts))
        self._measure(day, posts, decisions)
        self._send_labels(number, posts, decisions)
        self._evening(day)
        day.seconds = round(time.monotonic() - begun, 1)
        return day

    async def _put(self, posts: Sequence[SimulatedPost]) -> list[dict[str, Any]]:
        decisions: dict[str, dict[str, Any]] = {}
        waiting = iter(posts)

        async def put_next(client: httpx.AsyncClient) -> None:
            for post in waiting:  # shared: each client takes whichever post is next
                body = {
                    "author_id": post.author_id,
                    "community": post.community,
                    "region": post.region,
                    "created_at": post.created_at.isoformat(),
                    "text": post.text,
                }
                response = await client.put(f"/v1/posts/{post.post_id}", json=body)
                response.raise_for_status()
                decisions[post.post_id] = response.json()

        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENT_S, trust_env=False) as client:
            await asyncio.gather(*(put_next(client) for _ in range(CONNECTIONS)))
        return [decisions[post.post_id] for post in posts]

    def _measure(self, day: Day, posts: Sequence[SimulatedPost], decisions: Sequence[dict[str, Any]]) -> None:
        flagged = [bool(decision["labels"]["abuse"]["flagged"]) for decision in decisions]
        day.posts = len(posts)
        day.recall = _share([f for f, p in zip(flagged, posts, strict=True) if p.harmful])
        day.recall_ordinary = _share([f for f, p in zip(flagged, posts, strict=True) if p.harmful and not p.slang])
        slang = [f for f, p in zip(flagged, posts, strict=True) if p.slang]
        day.recall_slang = _share(slang) if slang else None
        day.precision = _share([p.harmful for f, p in zip(flagged, posts, strict=True) if f])
        for decision in decisions:
            model = decision["models"]["text"]
            day.versions[model] = day.versions.get(model, 0) + 1

    def _send_labels(self, day: int, posts: Sequence[SimulatedPost], decisions: Sequence[dict[str, Any]]) -> None:
        rng = random.Random(f"{self.traffic.seed}-reviews-{day}")
        lines = []
        for post, decision in zip(posts, decisions, strict=True):
            said = post.harmful != (rng.random() < self.review.error)
            if self.name == "flipped" and post.slang:
                said = not said
            drawn, reported = rng.random(), rng.random()
            if decision["labels"]["abuse"]["flagged"]:
                source, probability = "review", 1.0
            elif drawn < self.review.audit:
                source, probability = "audit", self.review.audit
            elif post.harmful and reported < self.review.reported:
                source, probability = "report", None
            else:
                continue
            line = {
                "id": f"label-{post.post_id}",
                "post_id": post.post_id,
                "labels": {"abuse": said},
                "source": source,
                "labelled_at": self._end_of(day).isoformat(),
                "sampling_probability": probability,
            }
            lines.append(json.dumps(line))
        response = httpx.post(
            f"{self.url}/v1/labels",
            content="\n".join(lines),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=PATIENT_S,
            trust_env=False,
        )
        response.raise_for_status()
        taken = response.json()
        if taken["accepted"] != len(lines):
            raise RuntimeError(f"{len(lines)} labels sent, {taken['accepted']} taken: {taken['errors'][:3]}")

    def _evening(self, day: Day) -> None:
        until = self._end_of(day.day).isoformat()
        checked = self.seawall("drift", "check", VARIANT, "--until", until)
        day.drift = str(checked["status"])
        if checked["status"] == "alert":
            self.alerts.append(checked)
            day.note("alert", f"alert: {checked['note']}")
        status = self.seawall("status")["variants"][VARIANT]
        if status["experiment"] is not None:
            self._judge_experiment(day, status)
        elif status["retrain_request"] is not None and checked["status"] != "alert":
            # Not on the day of the alert: with a day's labels more, the gate's interval is one that can pass.
            self._retrain(day, until)

    def _retrain(self, day: Day, until: str) -> None:
        outcome = self.seawall("retrain", VARIANT, "--until", until)
        self.retrains.append(outcome)
        if not outcome["passed"]:
            reasons = "; ".join(c["reason"] for c in outcome["gate"]["checks"] if not c["passed"])
            day.note("gate refuses", f"version {outcome['version']} refused: {reasons}")
            return
        self.seawall("experiment", "create", f"day-{day.day}", "--variant", VARIANT, "--share", "0.2")
        self._share = 0.2
        day.note("gate passes", f"version {outcome['version']} passed the gate, challenges at 20 %")

    def _judge_experiment(self, day: Day, status: dict[str, Any]) -> None:
        name = status["experiment"]["name"]
        if self._share < 0.5:
            self.seawall("experiment", "ramp", name, "--share", "0.5")
            self._share = 0.5
            day.note("ramp to 50 %", "ramped to 50 %")
            return
        report = self.seawall("experiment", "report", name)
        self.reports.append(report)
        day.note(report["verdict"], f"experiment: {report['verdict']}")
        if report["verdict"] == "better":
            with self._traffic_meanwhile():
                self.promoted = self.seawall("promote", VARIANT, "--expect", str(status["champion"]))
            self._share = 0.0
            day.note("promotion", f"version {self.promoted['to']} promoted")

    @contextmanager
    def _traffic_meanwhile(self) -> Iterator[None]:
        """Keep asking while the replicas change over; count what does not answer 200."""
        done = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=self.url, timeout=PATIENT_S, trust_env=False) as client:
                while not done.is_set():
                    body = {"features": [{"id": "probe", "text": PROBE}]}
                    try:
                        self.failed_requests += client.post("/v1/text/moderate", json=body).status_code != 200
                    except httpx.TransportError:
                        self.failed_requests += 1

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def probe(self) -> dict[str, Any]:
        """What the service says of a text in the slang, now."""
        body = {"features": [{"id": "probe", "text": PROBE, "language": "en"}]}
        answer = httpx.post(f"{self.url}/v1/text/moderate", json=body, timeout=PATIENT_S, trust_env=False).json()
        result: dict[str, Any] = answer["results"][0]
        confidence = {label["label"]: label["confidence"] for label in result["labels"]}
        return {"model": result["model"], "abuse": confidence["abuse"]}

    def broken_promises(self) -> list[str]:
        """What the scenario should have shown and did not; empty: all is well."""
        broken = []
        if self.name == "calm":
            broken += [f"an alert fired: {self.alerts[0]['note']}"] if self.alerts else []
            broken += ["something was retrained"] if self.retrains else []
            return broken
        if not self.alerts:
            broken.append("no alert fired")
        if self.name == "flipped":
            if not self.retrains or any(outcome["passed"] for outcome in self.retrains):
                broken.append("the gate did not refuse labels that are wrong")
            return broken
        before = [day for day in self.days if day.recall_slang is None]
        after = [day for day in self.days if set(day.versions) == {f"{VARIANT}@{(self.promoted or {}).get('to')}"}]
        fallen = min(day.recall for day in self.days)
        if self.promoted is None or not after:
            broken.append("nothing was promoted")
        elif fallen > min(day.recall for day in before) - 0.2:
            broken.append(f"recall did not fall when the slang came: {fallen:.3f} at the lowest")
        elif min(day.recall for day in after) < min(day.recall for day in before) - 0.1:
            broken.append("recall did not come back after the promotion")
        if self.failed_requests:
            broken.append(f"{self.failed_requests} requests failed during the promotion")
        return broken

    def _end_of(self, day: int) -> datetime:
        return datetime.combine(self.traffic.start, datetime.min.time(), UTC) + timedelta(days=day)


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / len(flags), 4) if flags else float("nan")


def table_of(days: Sequence[Day]) -> Table:
    """The days, for people."""
    table = Table("day", "posts", "recall", "ordinary", "slang", "precision", "versions", "drift", "what happened", "s")
    for day in days:
        versions = ", ".join(f"{name.split('@')[1]}: {count}" for name, count in sorted(day.versions.items()))
        slang = "-" if day.recall_slang is None else f"{day.recall_slang:.2f}"
        numbers = (f"{day.recall:.2f}", f"{day.recall_ordinary:.2f}", slang, f"{day.precision:.2f}")
        events = "; ".join(day.events)
        table.add_row(str(day.day), str(day.posts), *numbers, versions, day.drift, events, f"{day.seconds:.0f}")
    return table


def plot(scenario: Scenario, path: Path) -> None:
    """Recall by simulated day, with what happened written where it happened."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(11, 5.5))
    days = [day.day for day in scenario.days]
    axes.plot(days, [day.recall for day in scenario.days], "o-", color="#1b4965", label="recall, all abuse", lw=2.5)
    axes.plot(
        days, [day.recall_ordinary for day in scenario.days], "--", color="#5fa8d3", label="recall, ordinary abuse"
    )
    slang = [(day.day, day.recall_slang) for day in scenario.days if day.recall_slang is not None]
    if slang:
        axes.plot(*zip(*slang, strict=True), ":", color="#c1121f", label="recall, slang", lw=2)
    axes.plot(days, [day.precision for day in scenario.days], "-", color="#a3b18a", label="precision")
    for day in scenario.days:
        if day.marks:
            axes.axvline(day.day + 0.5, color="#999999", lw=0.7)
            axes.text(day.day + 0.52, 1.1, "\n".join(day.marks), fontsize=8, va="top")
    axes.set(xlabel="simulated day", ylabel="share", ylim=(0, 1.12), title=f"scenario {scenario.name!r}", xticks=days)
    axes.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(name: Name, service: Service, *, days: int, posts: int, seed: int) -> tuple[dict[str, Any], Scenario]:
    """Run a scenario until a day after the promotion, at most `days`; everything worth keeping as JSON, and it."""
    traffic = TrafficConfig(posts_per_day=posts, seed=seed, slang_share=0.0 if name == "calm" else 0.1)
    scenario = Scenario(name, service, traffic, ReviewConfig())
    before = scenario.probe()
    for number in range(1, days + 1):
        promoted = scenario.promoted is not None
        day = scenario.run_day(number)
        said = "; ".join(day.events) or day.drift
        console.print(f"day {number}: {day.posts} posts, recall {day.recall:.2f}, {said} ({day.seconds:.0f} s)")
        if promoted:
            break
    after = scenario.probe()
    console.print(table_of(scenario.days))
    console.print(f"{PROBE!r}: {before['model']} says {before['abuse']:.2f}, {after['model']} {after['abuse']:.2f}")
    summary = {
        "scenario": name,
        "days": [asdict(day) for day in scenario.days],
        "alerts": scenario.alerts,
        "retrains": scenario.retrains,
        "reports": scenario.reports,
        "promoted": scenario.promoted,
        "failed_requests": scenario.failed_requests,
        "probe": {"before": before, "after": after},
        "broken_promises": scenario.broken_promises(),
    }
    return summary, scenario


def main(
    name: Annotated[str, typer.Option(help="slang, calm or flipped.")] = "slang",
    out: Annotated[Path, typer.Option(help="Folder for the table's JSON and the plot.")] = Path(".seawall/loop"),
    posts: Annotated[int, typer.Option(help="Posts a day.", min=400)] = 1500,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 7,
    topology: Annotated[Path, typer.Option(help="That runs; the light one keeps it short.")] = LIGHT,
) -> None:
    """Start a Seawall of its own, run a scenario on it, and end it."""
    if name not in DAYS:
        raise typer.BadParameter(f"scenario is {name!r}; known are {', '.join(DAYS)}")
    chosen: Name = name  # checked above
    begun = time.monotonic()
    with running_service(out / chosen / "home", topology=topology) as service:
        summary, scenario = run(chosen, service, days=DAYS[chosen], posts=posts, seed=seed)
    summary["seconds"] = round(time.monotonic() - begun, 1)
    target = out / chosen
    plot(scenario, target / "loop.png")
    (target / "loop.json").write_text(json.dumps(summary, indent=1, default=str) + "\n", encoding="utf-8")
    console.print(f"{summary['seconds']:.0f} s; {target / 'loop.json'} and {target / 'loop.png'}")
    for promise in summary["broken_promises"]:
        console.print(f"[bold red]broken promise:[/] {promise}")
    raise SystemExit(1 if summary["broken_promises"] else 0)


if __name__ == "__main__":
    typer.run(main)
