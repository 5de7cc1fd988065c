"""The roof: the `seawall` command, put together from the rooms' own commands."""

from __future__ import annotations

import os

import typer

import drift.cli
import serve.experiments.commands
import serve.fuse.commands
import serve.media.commands
import serve.outbox.commands
import serve.review.commands
import serve.rollout.commands
import serve.rollout.inspection
import serve.statements.commands
import train.cli
from moderation.console import errors_told

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Seawall removes harmful content from a platform, and keeps learning.",
)
app.command(rich_help_panel="Service")(serve.rollout.commands.up)
app.command(rich_help_panel="Service")(serve.rollout.commands.down)
app.command(rich_help_panel="Service")(serve.rollout.commands.status)
app.command(rich_help_panel="Service")(serve.rollout.commands.moderate)
app.add_typer(serve.rollout.inspection.models, name="models", rich_help_panel="Service")
app.add_typer(serve.rollout.inspection.config, name="config", rich_help_panel="Service")
app.add_typer(serve.media.commands.app, name="media", rich_help_panel="Service")
app.add_typer(serve.review.commands.app, name="review", rich_help_panel="People")
app.add_typer(serve.fuse.commands.app, name="fuse", rich_help_panel="People")
app.add_typer(serve.outbox.commands.app, name="webhooks", rich_help_panel="Service")
app.add_typer(serve.statements.commands.app, name="statements", rich_help_panel="Service")
app.command(rich_help_panel="Learning")(train.cli.retrain)
app.add_typer(drift.cli.app, name="drift", rich_help_panel="Learning")
app.add_typer(serve.experiments.commands.app, name="experiment", rich_help_panel="Rollout")
app.command(rich_help_panel="Rollout")(serve.rollout.commands.promote)
app.command(rich_help_panel="Rollout")(serve.rollout.commands.rollback)


def main() -> None:
    """Entry point."""
    os.umask(0o077)  # posts, keys and logs are for this user alone
    with errors_told():
        app()


if __name__ == "__main__":
    main()
