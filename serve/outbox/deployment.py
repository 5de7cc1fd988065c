"""The sender as a deployment of Ray Serve, which starts it anew wherever it dies."""

from __future__ import annotations

import asyncio
import threading

from ray import serve as ray_serve

from moderation.sections import Webhook
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from serve.outbox.sender import Sender, secrets_of
from serve.rollout.names import OutboxConfig
from serve.rollout.replica import settle


@ray_serve.deployment(name="outbox")
class Outbox:
    """Sends webhooks in a thread of its own, whose loop nothing else waits for. Answers no requests."""

    def __init__(self) -> None:
        settle()
        self._ledger = Ledger(Settings.from_environment().ledger_url)
        self._sending: _Sending | None = None

    def reconfigure(self, config: OutboxConfig) -> None:
        """Send to these endpoints from now on."""
        webhooks = [Webhook.model_validate(webhook) for webhook in config["webhooks"]]
        sender = Sender(self._ledger, webhooks, secrets_of(webhooks))
        if self._sending is not None:
            self._sending.end()
        self._sending = _Sending(sender)

    def check_health(self) -> None:
        """A sender that ended is no sender: Serve replaces the replica."""
        if self._sending is not None and not self._sending.alive():
            raise RuntimeError("the sender of webhooks ended; the log of the service says why")

    def __del__(self) -> None:
        sending = getattr(self, "_sending", None)
        if sending is not None:
            sending.end()


class _Sending:
    """A thread that sends until it is told to end."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._sender.run(self._stop))

    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """Let what is under way come to its end, within its timeout."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
