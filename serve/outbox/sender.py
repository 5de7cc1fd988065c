"""The sender of webhooks: takes what is due from the ledger's outbox, posts it, and records what became of it.

It holds nothing that the ledger does not: killed at any point and started anew, it goes on where the leases of its
predecessor end. Several at once share the work. Imports no Ray: it runs in a replica (`serve.outbox.deployment`)
and in `seawall webhooks send` alike.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx

from moderation.errors import ConfigError
from moderation.sections import Webhook
from moderation.storage.ledger import Ledger, now
from serve.outbox import queue as outbox_queue
from serve.outbox.queue import AttemptResult, Delivery
from serve.outbox.signing import SHORTEST_SECRET, headers_of

logger = logging.getLogger("ray.serve")

POLL_S = 0.25
"""How often an endpoint with nothing due looks for new actions, in seconds."""
LEASE_TIMEOUTS = 2.0
"""How long a delivery is its taker's, as a multiple of the timeout: one for the request, one to record its outcome."""
LEDGER_S = 10.0
"""And so many seconds more, for a ledger that is slow to say that it was taken: what came too late is not sent."""
MOST_REPLY_BYTES = 65_536
"""Of a reply that is read, so that its connection can be used again; of a longer one the connection is closed."""


def secrets_of(webhooks: Sequence[Webhook], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Each endpoint's secret, by the endpoint's name.

    Raises:
        ConfigError: one is not in the environment, or too short.
    """
    found: dict[str, str] = {}
    for webhook in webhooks:
        secret = environment.get(webhook.secret_env, "")
        if len(secret) < SHORTEST_SECRET:
            problem = f"the environment's {webhook.secret_env} has {len(secret)} characters; it takes {SHORTEST_SECRET}"
            raise ConfigError(f"webhooks.{webhook.name}.secret_env", problem)
        found[webhook.name] = secret
    return found


def wait_after(webhook: Webhook, attempts: int, chance: random.Random) -> timedelta | None:
    """How long to wait after so many failed attempts; None: no more.

    Doubles with each, up to the bound; half of it at most is cut off at random, so that what failed together does not
    come back together.
    """
    if attempts >= webhook.max_attempts:
        return None
    doubled = min(webhook.max_retry_s, webhook.first_retry_s * 2.0 ** min(attempts - 1, 62))
    return timedelta(seconds=doubled * chance.uniform(0.5, 1.0))


class Sender:
    """Sends to the configured endpoints.

    Args:
        ledger: where the outbox is.
        webhooks: to whom.
        secrets: of `secrets_of`.
        seed: of the jitter; None: unforeseeable.
    """

    def __init__(
        self, ledger: Ledger, webhooks: Sequence[Webhook], secrets: Mapping[str, str], *, seed: int | None = None
    ) -> None:
        self._ledger = ledger
        self._webhooks = webhooks
        self._secrets = secrets
        self._chance = random.Random(seed)  # noqa: S311  # jitter is no secret

    async def send_due(self) -> dict[str, int]:
        """Send all that is due, retries that are due meanwhile included; how many attempts, by endpoint."""
        async with self._client() as client:
            tasks = [self._drain(client, webhook, stop=None) for webhook in self._webhooks]
            counts = await asyncio.gather(*tasks)
        return {webhook.name: count for webhook, count in zip(self._webhooks, counts, strict=True)}

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`, which lets what is under way come to its end."""
        async with self._client() as client:
            await asyncio.gather(*(self._serve(client, webhook, stop) for webhook in self._webhooks))

    def _client(self) -> httpx.AsyncClient:
        # The address is the operator's alone: no proxy of the environment, no redirect to somewhere else.
        return httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  # one of our own is about the whole attempt
            headers={"User-Agent": "Seawall"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
        )

    async def _serve(self, client: httpx.AsyncClient, webhook: Webhook, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._drain(client, webhook, stop=stop)
            except Exception:  # the ledger cannot be reached, say; what was sent is sent again
                logger.exception("the outbox of %s failed", webhook.name)
            try:
                await asyncio.wait_for(stop.wait(), POLL_S)
            except TimeoutError:
                continue

    async def _drain(self, client: httpx.AsyncClient, webhook: Webhook, *, stop: asyncio.Event | None) -> int:
        flying: set[asyncio.Task[AttemptResult | None]] = set()
        attempts = 0
        try:
            while True:
                free = webhook.concurrency - len(flying)
                if free and not (stop is not None and stop.is_set()):
                    for delivery in await asyncio.to_thread(self._next, webhook, free):
                        flying.add(asyncio.create_task(self._attempt(client, webhook, delivery)))
                        attempts += 1
                if not flying:
                    return attempts
                # Not for longer: what is due by then must not wait for a slow one's timeout while places are free.
                done, flying = await asyncio.wait(flying, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                outcomes = [outcome for task in done if (outcome := task.result()) is not None]
                await asyncio.to_thread(outbox_queue.settle, self._ledger, outcomes)
        finally:
            for task in flying:
                task.cancel()

    def _next(self, webhook: Webhook, free: int) -> list[Delivery]:
        while outbox_queue.fan_out(self._ledger, webhook.name, after_action=webhook.after_action) == outbox_queue.BATCH:
            pass
        hold = timedelta(seconds=LEASE_TIMEOUTS * webhook.timeout_s + LEDGER_S)
        return outbox_queue.take(self._ledger, webhook.name, limit=free, hold=hold)

    async def _attempt(self, client: httpx.AsyncClient, webhook: Webhook, delivery: Delivery) -> AttemptResult | None:
        """Send once; None: the lease ended before that, and it is another sender's now."""
        if now() >= delivery.lease - timedelta(seconds=webhook.timeout_s):
            return None
        error = await self._post(client, webhook, delivery)
        if error is None:
            return AttemptResult(delivery)
        wait = wait_after(webhook, delivery.attempts + 1, self._chance)
        logger.warning(
            "delivery %s to %s failed, %s: %s",
            delivery.delivery_id,
            webhook.name,
            "it is dead" if wait is None else f"next in {wait.total_seconds():.0f} s",
            error,
        )
        return AttemptResult(delivery, error, None if wait is None else now() + wait)

    async def _post(self, client: httpx.AsyncClient, webhook: Webhook, delivery: Delivery) -> str | None:
        """Why it failed, or None."""
        signed: dict[str, Any] = headers_of(
            self._secrets[webhook.name],
            timestamp=int(time.time()),
            delivery_id=delivery.delivery_id,
            body=delivery.body,
        )
        headers = signed | {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(webhook.timeout_s),
                client.stream("POST", webhook.url, content=delivery.body, headers=headers) as response,
            ):
                read = 0
                async for chunk in response.aiter_raw():
                    read += len(chunk)
                    if read > MOST_REPLY_BYTES:
                        break
        except TimeoutError:
            return f"no answer within {webhook.timeout_s:g} s"
        except Exception as error:  # whatever breaks one request must not hold up the others
            return f"{type(error).__name__}: {error}"
        if response.is_success:
            return None
        moved = "; redirects are not followed" if response.is_redirect else ""
        return f"answered {response.status_code}{moved}"
