"""The worker's own process: `python -m serve.media.isolation`, started by `Workers` and by nobody else."""

from __future__ import annotations

import argparse

from moderation.preprocess.media import read
from serve.media.isolation.worker import serve


def main() -> None:
    """Answer tasks until the pipe is closed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory-mb", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    told = parser.parse_args()
    serve(read, memory_mb=told.memory_mb, parent=told.parent)


if __name__ == "__main__":
    main()
