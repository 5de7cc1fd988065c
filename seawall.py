"""The roof: the `seawall` command, put together from the rooms' own commands."""

from __future__ import annotations

import os

import typer

import drift.cli
import serve.cli
import serve.experiments.cli
import serve.inspection
import serve.media.cli
import serve.review.cli
import serve.statements
import serve.webhooks
import train.cli
from moderation.console import errors_told

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Seawall removes harmful content from a platform, and keeps learning.",
)
app.command(rich_help_panel="Service")(serve.cli.up)
app.command(rich_help_panel="Service")(serve.cli.down)
app.command(rich_help_panel="Service")(serve.cli.status)
app.command(rich_help_panel="Service")(serve.cli.moderate)
app.add_typer(serve.inspection.models, name="models", rich_help_panel="Service")
app.add_typer(serve.inspection.config, name="config", rich_help_panel="Service")
app.add_typer(serve.media.cli.app, name="media", rich_help_panel="Service")
app.add_typer(serve.review.cli.review, name="review", rich_help_panel="People")
app.add_typer(serve.review.cli.app, name="fuse", rich_help_panel="People")
app.add_typer(serve.webhooks.app, name="webhooks", rich_help_panel="Service")
app.add_typer(serve.statements.app, name="statements", rich_help_panel="Service")
app.command(rich_help_panel="Learning")(train.cli.retrain)
app.add_typer(drift.cli.app, name="drift", rich_help_panel="Learning")
app.add_typer(serve.experiments.cli.app, name="experiment", rich_help_panel="Rollout")
app.command(rich_help_panel="Rollout")(serve.cli.promote)
app.command(rich_help_panel="Rollout")(serve.cli.rollback)


def main() -> None:
    """Entry point."""
    os.umask(0o077)  # posts, keys and logs are for this user alone
    with errors_told():
        app()


if __name__ == "__main__":
    main()
