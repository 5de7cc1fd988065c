"""Any medium -> `Reading`: the one way in for serving and training."""

from __future__ import annotations

from pathlib import Path

from moderation.media import MediaKind, Reading, ReadRules, Refused
from moderation.preprocess.image import read_image
from moderation.preprocess.video import read_video


def read(path: Path, kind: MediaKind, rules: ReadRules) -> Reading | Refused:
    """Read a medium in this process; `serve.media.isolation` does so in another, where a decoder may die.

    Args:
        path: its bytes.
        kind: as it was told.
        rules: its bounds, and what is sampled.

    Raises:
        MemoryError: it needs more than there is.
        OSError: the file itself cannot be read.
    """
    return read_image(path, rules) if kind == "image" else read_video(path, rules)
