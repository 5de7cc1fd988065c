"""`seawall webhooks`: how the outbox stands, its dead letters, and a sender for those who run none in the service."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import JsonOption, TopologyOption, err, out, print_json
from moderation.errors import ConfigError
from moderation.running import find, topology_of
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.outbox import queue as outbox_queue
from serve.outbox.queue import Counts
from serve.outbox.sender import Sender, secrets_of

app = typer.Typer(no_args_is_help=True, help="Webhooks: what is pending, what is dead, and sending.")

_NOTHING = Counts(pending=0, delivered=0, dead=0, oldest=None)


@app.command("list")
def list_webhooks(
    limit: Annotated[int, typer.Option(help="Dead letters shown at most.", min=0, max=100_000)] = 100,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Each endpoint's counts, and the dead letters."""
    settings = Settings.from_environment()
    webhooks = {webhook.name: webhook for webhook in _topology(settings, topology).webhooks}
    ledger = Ledger(settings.ledger_url)
    counts = dict.fromkeys(webhooks, _NOTHING) | outbox_queue.counts(ledger)
    letters = outbox_queue.dead_letters(ledger, limit=limit)
    endpoints: list[dict[str, Any]] = [
        {
            "name": name,
            "url": webhooks[name].url if name in webhooks else None,
            "pending": count.pending,
            "delivered": count.delivered,
            "dead": count.dead,
            "oldest_pending": None if count.oldest is None else count.oldest.isoformat(),
        }
        for name, count in sorted(counts.items())
    ]
    dead = [{name: getattr(letter, name) for name in letter.__dataclass_fields__} for letter in letters]
    if as_json:
        print_json({"endpoints": endpoints, "dead": dead})
        return
    if not endpoints:
        out.print("no webhooks are configured, and none ever were")
        return
    table = Table("endpoint", "url", "pending", "delivered", "dead", "oldest pending")
    for row in endpoints:
        numbers = (str(row[key]) for key in ("pending", "delivered", "dead"))
        table.add_row(row["name"], row["url"] or "not configured", *numbers, row["oldest_pending"] or "-")
    out.print(table)
    if dead:
        table = Table("dead delivery", "endpoint", "action", "post", "attempts", "last error")
        for row in dead:
            table.add_row(
                str(row["delivery_id"]),
                str(row["endpoint"]),
                str(row["action_id"]),
                Text(str(row["post_id"])),
                str(row["attempts"]),
                Text(str(row["last_error"] or "-")),
            )
        out.print(table)


@app.command()
def redrive(
    delivery_id: Annotated[str | None, typer.Argument(help="A dead delivery.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead deliveries.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make dead letters due again, with all their attempts before them."""
    if (delivery_id is None) != everything:
        raise ValueError("name one delivery, or say --all")
    count = outbox_queue.redrive(Ledger(Settings.from_environment().ledger_url), delivery_id)
    if as_json:
        print_json({"redriven": count})
    else:
        out.print(f"{count} due again")


@app.command()
def send(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is due.")] = False,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Send what is due, until Ctrl-C. `seawall up` does it by itself; several senders share the work."""
    settings = Settings.from_environment()
    chosen = _topology(settings, topology)
    if not chosen.webhooks:
        raise ConfigError(f"{chosen.path.name}: webhooks", "names no endpoint to send to")
    sender = Sender(Ledger(settings.ledger_url), chosen.webhooks, secrets_of(chosen.webhooks))
    if once:
        attempts = asyncio.run(sender.send_due())
        if as_json:
            print_json({"attempts": attempts})
        else:
            out.print(", ".join(f"{name}: {count} attempts" for name, count in attempts.items()))
        return
    err.print("Ctrl-C ends it.")
    asyncio.run(_until_told(sender))


async def _until_told(sender: Sender) -> None:
    stop = asyncio.Event()
    for told in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(told, stop.set)
    await sender.run(stop)


def _topology(settings: Settings, chosen: Path | None) -> Topology:
    return Topology.load(topology_of(find(settings), chosen))
