"""Online features in Redis, for gateways on several machines: a document a key, read by one MGET, added by one script.

Redis 6.2 and later. What is kept has a time to live, so nothing has to be swept. All keys have one hash tag, so that
one script may touch those of a whole group; in a Redis Cluster they share a slot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from moderation.errors import FeaturesUnavailableError
from moderation.storage.feature_profiles import LATE, MEMORY, RETENTION, SERIES, Change
from moderation.storage.feature_store import FeatureStore

TIMEOUT_S = 0.5
"""How long a connection is waited for, and then a reply, in seconds."""
PREFIX = "{seawall}:1:"
"""Of every key, with the version of what they hold."""

_BUILT = f"{PREFIX}built"
_SERIES = json.dumps({name: (width, buckets + LATE) for name, (width, buckets) in SERIES.items()})
# The rules of `feature_profiles.add` and `prune`, where the documents are, so that none is changed by two at a time.
_ADD = """
local changes, series = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local memory, retention = ARGV[3], ARGV[4]
local documents, fresh = {}, 0

local function document_of(key)
  if not documents[key] then
    local held = redis.call('GET', key)
    documents[key] = held and cjson.decode(held) or {}
  end
  return documents[key]
end

local function add(held, at, counts, width, days)
  local bucket = string.format('%d', math.floor(at / width))
  if days then
    local day = held[bucket] or {0, 0, 0, 0, 0}
    for index, count in ipairs(counts) do day[index] = day[index] + count end
    held[bucket] = day
  else
    held[bucket] = (held[bucket] or 0) + counts[1]
  end
end

local function prune(held, kept)
  local newest
  for name in pairs(held) do
    local number = tonumber(name)
    if not newest or number > newest then newest = number end
  end
  for name in pairs(held) do
    if tonumber(name) < newest - kept then held[name] = nil end
  end
end

for _, change in ipairs(changes) do
  local seen, keys, at, counts, first, counted = unpack(change)
  if seen == 0 or redis.call('SET', KEYS[seen], '1', 'NX', 'PX', memory) then
    fresh = fresh + 1
    for _, key in ipairs(keys) do
      local document = document_of(KEYS[key])
      if first and (not document.f or at < document.f) then document.f = at end
      if counted then
        for name, shape in pairs(series) do
          if name == 'd' or counts[1] > 0 then
            document[name] = document[name] or {}
            add(document[name], at, counts, shape[1], name == 'd')
          end
        end
      end
    end
  end
end
for key, document in pairs(documents) do
  for name, shape in pairs(series) do
    if document[name] then prune(document[name], shape[2]) end
  end
  redis.call('SET', key, cjson.encode(document), 'EX', retention)
end
return fresh
"""


class RedisFeatures(FeatureStore):
    """Features in Redis. It is asked for the first time when something is read or told, not before.

    Args:
        url: `redis://HOST:PORT/DATABASE`, `rediss://...` or `unix://PATH?db=DATABASE`.
        memory: how long it is remembered what was observed.
    """

    def __init__(self, url: str, memory: timedelta = MEMORY) -> None:
        self._memory_ms = int(memory.total_seconds() * 1000)
        # A connection of the pool that died with a restart is noticed before it is used. Whatever else fails is told at
        # once: by default the library would try again for seconds, which a post that is to be decided has not.
        self._redis = redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._add = self._redis.register_script(_ADD)

    @property
    def is_built(self) -> bool:
        """Whether the store was filled from the ledger once."""
        with _store_errors():
            return bool(self._redis.exists(_BUILT))

    def mark_built(self) -> None:
        """Say that the store was filled from the ledger."""
        with _store_errors():
            self._redis.set(_BUILT, "1")

    def clear(self) -> None:
        """Forget everything that has our prefix."""
        with _store_errors():
            self._redis.delete(_BUILT)
            found: list[bytes] = []
            for key in self._redis.scan_iter(match=f"{PREFIX}*", count=1000):
                found.append(key)
                if len(found) == 1000:
                    self._redis.unlink(*found)
                    found.clear()
            if found:
                self._redis.unlink(*found)

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    def _load(self, keys: Sequence[str]) -> list[str | None]:
        with _store_errors():
            held = self._redis.mget([f"{PREFIX}{key}" for key in keys])
        return [document.decode() if isinstance(document, bytes) else document for document in held]

    def _apply(self, changes: Sequence[Change]) -> int:
        places: dict[str | bytes, int] = {}
        told = [_told_to_redis(change, places) for change in changes]
        arguments = (json.dumps(told), _SERIES, self._memory_ms, int(RETENTION.total_seconds()))
        with _store_errors():
            return int(self._add(keys=list(places), args=arguments))


def _told_to_redis(change: Change, places: dict[str | bytes, int]) -> list[object]:
    """A change as the script takes it; `places` is the list of its keys, as their places, from 1."""

    def place(key: str | bytes) -> int:
        return places.setdefault(key, len(places) + 1)

    seen = 0 if change.seen is None else place(f"{PREFIX}s:".encode() + change.seen)
    keys = [place(f"{PREFIX}{key}") for key in change.keys]
    return [seen, keys, change.at, change.counts, change.first, any(change.counts)]


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise FeaturesUnavailableError(f"the features' Redis failed: {type(error).__name__}: {error}") from error
