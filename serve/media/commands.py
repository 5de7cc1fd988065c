"""`seawall media collect`: deletes what retention no longer keeps of images and videos."""

from __future__ import annotations

from dataclasses import asdict, replace

import typer

from moderation.console import JsonOption, TopologyOption, out, print_json
from moderation.running import find, topology_of
from moderation.settings import Settings
from moderation.storage.ledger import Ledger, now
from moderation.topology import Topology
from serve.media.incoming import INCOMING, sweep

app = typer.Typer(no_args_is_help=True, help="Images and videos that are kept.")


@app.callback()
def _group() -> None:
    """One command is a group too: more will come."""


@app.command()
def collect(as_json: JsonOption = False, topology: TopologyOption = None) -> None:
    """Delete what no post used for `media.keep.days`; run it every hour, as what is due goes aside an hour before."""
    from moderation.storage.media_store import MediaStore  # pyarrow and boto3 take a second to import
    from serve.media import collect as media_collect

    settings = Settings.from_environment()
    rules = Topology.load(topology_of(find(settings), topology)).media.keep
    left = sweep(settings.home / INCOMING)
    done = media_collect.collect(Ledger(settings.ledger_url), MediaStore(settings.media_url), rules, now())
    done = replace(done, leftovers=done.leftovers + left)
    if as_json:
        print_json(asdict(done))
        return
    out.print(
        f"{done.removed} media deleted, {done.bytes} bytes; {done.aside} moved aside, to be deleted in an hour;"
        f" {done.restored} put back; {done.leftovers} leftovers deleted"
    )
