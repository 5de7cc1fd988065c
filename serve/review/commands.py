"""`seawall review surface`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from moderation.console import JsonOption, TopologyOption, out, print_json
from moderation.context import open_context
from moderation.storage.ledger import now

app = typer.Typer(no_args_is_help=True, help="What people are asked.")


@app.command()
def surface(
    hours: Annotated[float, typer.Option(help="Posts decided in the last so many hours.", min=0.01)] = 24,
    limit: Annotated[int, typer.Option(help="The newest posts that are looked at.", min=1, max=20_000)] = 3000,
    as_json: JsonOption = False,
    topology: TopologyOption = None,
) -> None:
    """Queue one post for each cluster of near-duplicates that nobody has looked at; run it every hour or so."""
    # transformers and scikit-learn take seconds to import
    from serve.review import near_duplicates
    from serve.review.embed import embed

    context, _ = open_context(topology)
    policy, rules = context.topology.policy, context.topology.review
    since = now() - timedelta(hours=hours)
    found = near_duplicates.surface(context.ledger, embed, policy=policy, rules=rules, since=since, limit=limit)
    if as_json:
        print_json([asdict(cluster) for cluster in found])
        return
    table = Table("posts", "such as", "queued")
    for cluster in found:
        table.add_row(str(cluster.posts), Text(cluster.text[:100]), cluster.post_id)
    out.print(table if found else "no cluster that nobody has looked at")
