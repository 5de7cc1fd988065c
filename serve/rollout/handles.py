"""How a gateway reaches the classifiers: a handle of Ray Serve for each variant and arm."""

from __future__ import annotations

import asyncio
import time

from ray import serve as ray_serve
from ray.serve.handle import DeploymentHandle

from moderation.media import MediaRef
from moderation.preprocess.features import Features
from serve.experiments.split import Arm
from serve.posts.answers import GroupFound, GroupScores
from serve.rollout.names import application_of

_READY_WITHIN_S = 2.0


class Handles:
    """Calls to the classifiers. Each raises what the classifier raises, or TimeoutError.

    Args:
        media_deadline_s: seconds that a group of media may take.
    """

    def __init__(self, media_deadline_s: float) -> None:
        self._media_deadline_s = media_deadline_s
        self._handles: dict[tuple[str, Arm], DeploymentHandle] = {}

    async def score(
        self, variant: str, arm: Arm, texts: list[str], known: list[Features], deadline: float
    ) -> GroupScores:
        """Scores of texts; as `serve.posts.answers.Score` has it."""
        call = self._of(variant, arm).score.remote(texts, known, deadline)
        scored: GroupScores = await asyncio.wait_for(call, max(0.0, deadline - time.time()))
        return scored

    async def score_media(self, variant: str, arm: Arm, media: list[MediaRef], deadline: float) -> GroupFound:
        """What is found in images or videos; as `serve.posts.answers.ScoreMedia` has it."""
        call = self._of(variant, arm).score.remote(media, deadline)
        found: GroupFound = await asyncio.wait_for(call, self._media_deadline_s)
        return found

    async def version(self, variant: str, arm: Arm) -> int:
        """The version that is loaded."""
        return int(await asyncio.wait_for(self._of(variant, arm).version.remote(), _READY_WITHIN_S))

    def forget_challengers(self) -> None:
        """A challenger's application may have gone and come back since its handle was made."""
        self._handles = {key: handle for key, handle in self._handles.items() if key[1] == "champion"}

    def _of(self, variant: str, arm: Arm) -> DeploymentHandle:
        # Kept: looking one up asks Serve's controller, and each handle learns the replicas' load anew.
        key = (variant, arm)
        if key not in self._handles:
            self._handles[key] = ray_serve.get_deployment_handle("classifier", application_of(variant, arm))
        return self._handles[key]
