"""The ingress deployment of Ray Serve: puts the HTTP surface together, and what its routes work with."""

# No `from __future__ import annotations` here: FastAPI needs the parameters' types when Ray Serve copies the routes.

import asyncio
import json
from functools import lru_cache
from pathlib import Path

from fastapi import Response
from ray import serve as ray_serve

from moderation.preprocess.language import detect_language
from moderation.registry import Registry
from moderation.settings import Settings
from moderation.storage.features import open_features
from moderation.storage.ledger import Ledger
from moderation.storage.media_store import MediaStore
from moderation.topology import Topology
from serve.compat import discovery, openai, perspective
from serve.context import GatewayContext
from serve.experiments.split import Arm
from serve.fuse.routes import router as fuse
from serve.http import admission, entrance
from serve.http.entrance import Entrance
from serve.http.handlers import add_handlers
from serve.http.problems import Problem, documented
from serve.http.wire import Api, Doorkeeper, example_response, json_reply
from serve.labels.routes import router as labels
from serve.media.door import MediaDoor
from serve.media.incoming import INCOMING
from serve.media.routes import router as media
from serve.metrics.routes import router as metrics
from serve.metrics.series import DecisionSeries, start_refreshing
from serve.posts import examples
from serve.posts.moderator import Moderator
from serve.posts.rejudging import Rejudging
from serve.posts.routes import router as posts
from serve.review.routes import router as people
from serve.rollout.handles import Handles
from serve.rollout.names import GatewayConfig
from serve.rollout.replica import settle
from serve.statements.routes import router as statements

api = Api(
    title="Seawall",
    version="0.1.0",
    description="Harmful content removal that keeps learning. Errors are RFC 9457 problems.",
)
api.add_middleware(Entrance)
api.add_middleware(Doorkeeper)
add_handlers(api)
for router in (
    *(posts, labels, people, fuse, metrics, statements, media),
    *(openai.router, perspective.router, discovery.router),
):
    api.include_router(router)


@ray_serve.deployment(name="gateway")
@ray_serve.ingress(api)
class Gateway:
    """Ingress deployment.

    Args:
        topology: path of the topology file.
    """

    def __init__(self, topology: str) -> None:
        settle()
        settings = Settings.from_environment()
        # What these read is read now, and not while the first request waits.
        detect_language("hm", region="US")
        ledger = Ledger(settings.ledger_url)
        known = open_features(settings.features_url)
        self._topology = loaded = Topology.load(Path(topology))
        loaded.blocklist.watch()
        entrance.HERE.bounds = loaded.gateway
        admission.HERE.bounds = loaded.gateway  # of the module: Ray copies what this class itself refers to
        self._handles = Handles(loaded.media.deadline_ms / 1000)
        self._moderator = Moderator(
            loaded,
            ledger,
            self._handles.score,
            lru_cache(maxsize=256)(Registry(settings).card),
            known,
            DecisionSeries().count,
            score_media=self._handles.score_media,
        )
        door = MediaDoor(loaded.media, MediaStore(settings.media_url), settings.home / INCOMING, ledger)
        self.context = GatewayContext(loaded, ledger, self._moderator, known, door)
        start_refreshing(ledger, loaded.metrics)
        # Kept, or it would end. Serve makes its deployments on the loop that they answer on.
        self._rejudging = asyncio.get_running_loop().create_task(
            Rejudging(ledger, self._moderator, loaded.rejudge).run()
        )

    def reconfigure(self, config: GatewayConfig) -> None:
        """Take over which experiments run."""
        self._moderator.judge.splits = config["splits"]
        self._handles.forget_challengers()

    @api.get("/healthz", responses=example_response(examples.HEALTH) | documented(), summary="The process lives")
    async def healthz(self) -> dict[str, str]:
        """Answers as long as the process does."""
        return examples.HEALTH

    @api.get(
        "/readyz", responses=example_response(examples.READY) | documented(), summary="Every variant's model is loaded"
    )
    async def readyz(self) -> Response:
        """503 with reasons until each variant, and each running experiment's challenger, has a model."""
        arms: list[tuple[str, Arm]] = [(name, "champion") for name in self._topology.variants]
        arms += [(name, "challenger") for name in self._moderator.judge.splits]
        versions = await asyncio.gather(*(self._handles.version(*arm) for arm in arms), return_exceptions=True)
        models = {f"{name}/{arm}": version for (name, arm), version in zip(arms, versions, strict=True)}
        reasons = [
            f"{key}: {type(error).__name__}" for key, error in models.items() if isinstance(error, BaseException)
        ]
        if reasons:
            raise Problem(503, "not ready: " + "; ".join(reasons), retry_after=1, members={"reasons": reasons})
        return json_reply(json.dumps({"status": "ready", "models": models}))
