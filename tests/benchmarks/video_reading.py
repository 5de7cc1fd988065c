"""Seconds a clip, by sampling method, codec, resolution and distance of key frames.

    python -m tests.benchmarks.video_reading [--rounds 5] [--seconds 10] [--rate 25]

Clips are made by PyAV into a folder of their own, then read in this process by `read_video`, by one thread, key frames
and even sampling in turn, so that a machine that drifts drifts for both: of all rounds the least, the median and the
most are told, and of the ratio of each pair. `auto` is what a service does: key frames where there are enough of them.

Last of all, a clip of two seconds is sampled evenly at 8 and at 16 frames: what twice the frames cost where nearly all
of it is decoded anyway.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import av
import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from moderation.media import Reading, ReadRules
from moderation.preprocess import sampling as sampling_module
from moderation.preprocess.sampling import Sampling
from moderation.preprocess.video import read_video
from tests.benchmarks.load import spread


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a clip is made."""

    codec: str
    container: str
    encoder: str
    pixels: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()


ENCODINGS = (
    Encoding("h264", "mp4", "libx264", options=(("preset", "veryfast"),)),
    Encoding("vp9", "webm", "libvpx-vp9", options=(("deadline", "realtime"), ("cpu-used", "8"))),
    Encoding("av1", "mp4", "libsvtav1", options=(("preset", "12"), ("svtav1-params", "lp=1"))),
    Encoding("mpeg4", "mp4", "mpeg4"),
    Encoding("gif", "gif", "gif", "rgb8"),
)
SIZES = ((320, 240), (1280, 720))
GOPS_S = {"short": 1.0, "long": 10.0}
"""Seconds from key frame to key frame."""


def say(message: str) -> None:
    """Progress; standard output is for the result alone."""
    print(message, file=sys.stderr, flush=True)


def scene(size: tuple[int, int], number: int, texture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A frame: a textured ground that a camera pans over, and a square that crosses it."""
    width, height = size
    frame = np.roll(texture, -3 * number, axis=1)[:height, :width].copy()
    left = (7 * number) % (width - width // 8)
    frame[height // 3 : height // 3 + height // 8, left : left + width // 8] = (255, 40, 40)
    return frame


def make(path: Path, encoding: Encoding, size: tuple[int, int], seconds: float, rate: int, gop_s: float) -> None:
    """Write a clip."""
    width, height = size
    rough = np.random.default_rng(3).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    texture = np.asarray(Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC))
    gop = str(round(gop_s * rate))
    with av.open(str(path), "w", format=encoding.container) as target:
        stream: Any = target.add_stream(encoding.encoder, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, encoding.pixels
        stream.options = dict(encoding.options) | {"g": gop, "keyint_min": gop}
        for number in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(scene(size, number, texture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


def timed(path: Path, rules: ReadRules, how: Sampling) -> tuple[float, Reading]:
    """CPU-seconds of this thread's process, which neighbours disturb less than the clock, and what was read."""
    begun = time.process_time()
    found = read_video(path, rules, sampling=how)
    taken = time.process_time() - begun
    if not isinstance(found, Reading):
        raise SystemExit(f"{path.name} is refused: {found}")
    return taken, found


def measure(path: Path, rules: ReadRules, rounds: int) -> dict[str, Any]:
    """Key frames and even sampling in turn."""
    taken: dict[str, list[float]] = {"key": [], "even": []}
    frames: dict[str, int] = {}
    auto = timed(path, rules, "auto")[1]
    for number in range(rounds):
        order: tuple[Sampling, ...] = ("key", "even") if number % 2 else ("even", "key")
        for how in order:
            seconds, found = timed(path, rules, how)
            taken[how].append(seconds)
            frames[how] = len(found.times)
    ratios = [key / even for key, even in zip(taken["key"], taken["even"], strict=True)]
    return {
        "reader": auto.reader,
        "frames": frames,
        "auto": "key" if len(auto.times) == frames["key"] != frames["even"] else "even",
        "key_s": spread(taken["key"], 4),
        "even_s": spread(taken["even"], 4),
        "key_over_even": spread(ratios, 3),
    }


def short_clip(folder: Path, rounds: int) -> dict[str, Any]:
    """Two seconds at 8 and at 16 frames."""
    path = folder / "short"
    make(path, ENCODINGS[0], SIZES[0], 2.0, 15, 10.0)
    taken: dict[int, list[float]] = {8: [], 16: []}
    usual = sampling_module.SHORT_SAMPLES
    for _ in range(rounds * 4):
        for count, values in taken.items():
            sampling_module.SHORT_SAMPLES = count
            values.append(timed(path, ReadRules(), "even")[0])
    sampling_module.SHORT_SAMPLES = usual
    ratios = [more / fewer for more, fewer in zip(taken[16], taken[8], strict=True)]
    return {"8_s": spread(taken[8], 4), "16_s": spread(taken[16], 4), "16_over_8": spread(ratios, 3)}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Of each clip.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of each clip.")] = 10.0,
    rate: Annotated[int, typer.Option(min=1, help="Frames a second.")] = 25,
) -> None:
    """Measure, and print one JSON document as the last line."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for encoding in ENCODINGS:
            for size in SIZES:
                for gop, gop_s in GOPS_S.items():
                    if encoding.codec == "gif" and gop == "long":
                        continue  # GIF knows no such thing
                    path = folder / "clip"
                    make(path, encoding, size, seconds, rate, gop_s)
                    told = {"codec": encoding.codec, "size": list(size), "gop": gop, "bytes": path.stat().st_size}
                    found.append(told | measure(path, ReadRules(), rounds))
                    say(json.dumps(found[-1]))
        short = short_clip(folder, rounds)
    document = {"benchmark": "video_reading", "cpu_seconds_a_clip": found, "short_clip": short}
    print(json.dumps(document | {"rounds": rounds, "clip_seconds": seconds, "frames_a_second": rate}))


if __name__ == "__main__":
    typer.run(main)
