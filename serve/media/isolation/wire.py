"""What crosses the pipes between a replica and a worker, and how far the worker is believed: not at all.

A frame is a head of 12 bytes (length of the JSON, length of the payload; big-endian), the JSON, and the payload: the
arrays of a reading, one after the other, as the JSON's shapes say.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from moderation.media import MOST_SPANS, MOST_STILL_PICTURES, Code, Failed, MediaKind, Reading, ReadRules, Refused
from serve.media.isolation.errors import Garbled

HEAD = struct.Struct(">IQ")
MOST_JSON = 65_536
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,31}$"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Task(_Message):
    """What a worker is asked."""

    path: str
    kind: MediaKind
    rules: ReadRules


_Share = Annotated[float, Field(ge=-1e6, le=1e6)]
_Second = Annotated[float, Field(ge=0, le=1e6)]


class ToldReading(_Message):
    """A reading without its arrays; attributes as in `Reading`."""

    said: Literal["reading"] = "reading"
    kind: MediaKind
    format: Annotated[str, Field(pattern=_NAME)]
    width: Annotated[int, Field(ge=1, le=1_000_000)]
    height: Annotated[int, Field(ge=1, le=1_000_000)]
    frames: Annotated[int, Field(ge=1)] | None
    seconds: Annotated[float, Field(ge=0)] | None
    perceptual_hash: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], Annotated[int, Field(ge=0, le=100)]] | None
    reader: Literal["pillow", "decord", "pyav"]
    codec: Annotated[str, Field(pattern=_NAME)] | None
    pictures: tuple[
        Annotated[int, Field(ge=1, le=512)], Annotated[int, Field(ge=1, le=8192)], Annotated[int, Field(ge=1, le=8192)]
    ]
    """Shape, without the three colours."""
    followers: tuple[Annotated[int, Field(ge=1, le=160)], Annotated[int, Field(ge=1, le=160)]] | None
    """Shape of one."""
    added: Annotated[tuple[Annotated[int, Field(ge=0, lt=512)], ...], Field(max_length=512)] = ()
    looked_at: Annotated[float, Field(ge=0, le=1)] | None = None
    unseen: Annotated[tuple[tuple[_Second, _Second], ...], Field(max_length=MOST_SPANS)] = ()
    regions: tuple[tuple[_Share, _Share, _Share, _Share], ...] | None = None

    @model_validator(mode="after")
    def _video_has_followers(self) -> ToldReading:
        if (self.kind == "video") != (self.followers is not None):
            raise ValueError("a video has followers, and nothing else has")
        if self.regions is not None and len(self.regions) != self.pictures[0]:
            raise ValueError(f"{len(self.regions)} regions for {self.pictures[0]} pictures")
        if any(place >= self.pictures[0] for place in self.added):
            raise ValueError(f"picture {max(self.added)} was added, of {self.pictures[0]} pictures")
        return self


class ToldRefusal(_Message):
    """Why a medium is refused."""

    said: Literal["refused"] = "refused"
    code: Code
    detail: Annotated[str, Field(max_length=1000)]
    bound: float | None


class ToldFailure(_Message):
    """Why a medium was not read."""

    said: Literal["failed"] = "failed"
    reason: Annotated[str, Field(max_length=1000)]


class Note(_Message):
    """`ready`: imports are done; `taken`: the task has been read, and from here on its medium is to blame."""

    said: Literal["ready", "taken"]


Answer = Annotated[ToldReading | ToldRefusal | ToldFailure | Note, Field(discriminator="said")]
_ANSWER: TypeAdapter[ToldReading | ToldRefusal | ToldFailure | Note] = TypeAdapter(Answer)


def frame(message: BaseModel, *arrays: npt.NDArray[np.generic]) -> list[bytes | memoryview]:
    """A message as parts to write, without copying its arrays."""
    body = message.model_dump_json().encode()
    parts = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays]
    return [HEAD.pack(len(body), sum(part.nbytes for part in parts)), body, *parts]


def most_payload(rules: ReadRules) -> int:
    """Bytes of the arrays of the largest reading that the rules allow."""
    side = max(rules.image_side, rules.video_side)
    samples = max(max(rules.image_samples, rules.video_samples) + rules.added_samples, MOST_STILL_PICTURES)
    return samples * (3 * side * side + 160 * 160 + 8)


def answer_of(outcome: Reading | Refused | Failed) -> list[bytes | memoryview]:
    """An outcome as parts to write."""
    if isinstance(outcome, Refused):
        return frame(ToldRefusal(code=outcome.code, detail=outcome.detail[:1000], bound=outcome.bound))
    if isinstance(outcome, Failed):
        return frame(ToldFailure(reason=outcome.reason[:1000]))
    sampled, height, width, _ = outcome.pictures.shape
    told = ToldReading(
        kind=outcome.kind,
        format=outcome.format,
        width=outcome.width,
        height=outcome.height,
        frames=outcome.frames,
        seconds=outcome.seconds,
        perceptual_hash=outcome.perceptual_hash,
        reader=outcome.reader,
        codec=outcome.codec,
        pictures=(sampled, height, width),
        followers=None if outcome.followers is None else (outcome.followers.shape[1], outcome.followers.shape[2]),
        added=outcome.added,
        looked_at=outcome.looked_at,
        unseen=outcome.unseen,
        regions=outcome.regions,
    )
    arrays: list[npt.NDArray[np.generic]] = [outcome.pictures, outcome.times]
    if outcome.followers is not None and outcome.step is not None:
        arrays += [outcome.followers, outcome.step]
    return frame(told, *arrays)


def read_answer(body: bytes, payload: bytearray) -> Reading | Refused | Failed | Note:
    """An answer, checked.

    Raises:
        Garbled: it is none.
    """
    try:
        told = _ANSWER.validate_json(body)
    except ValidationError as error:
        raise Garbled(f"no answer: {error.error_count()} errors") from error
    if isinstance(told, ToldReading):
        return _reading(told, payload)
    if payload:
        raise Garbled("a payload where none belongs")
    if isinstance(told, ToldRefusal):
        return Refused(told.code, told.detail, told.bound)
    return Failed(told.reason) if isinstance(told, ToldFailure) else told


def _reading(told: ToldReading, payload: bytearray) -> Reading:
    sampled, height, width = told.pictures
    lengths = [sampled * height * width * 3, sampled * 4]
    if told.followers is not None:
        lengths += [sampled * told.followers[0] * told.followers[1], sampled * 4]
    if sum(lengths) != len(payload):
        raise Garbled(f"its arrays take {sum(lengths)} bytes, and {len(payload)} came")
    ends = np.cumsum(lengths).tolist()
    parts = [memoryview(payload)[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    times = np.frombuffer(parts[1], dtype=np.uint8).view(np.float32)
    step = np.frombuffer(parts[3], dtype=np.uint8).view(np.float32) if told.followers else None
    if not np.isfinite(times).all() or (step is not None and not np.isfinite(step).all()):
        raise Garbled("its times are no numbers")
    return Reading(
        kind=told.kind,
        format=told.format,
        width=told.width,
        height=told.height,
        frames=told.frames,
        seconds=told.seconds,
        pictures=np.frombuffer(parts[0], dtype=np.uint8).reshape(sampled, height, width, 3),
        times=times,
        followers=np.frombuffer(parts[2], dtype=np.uint8).reshape(sampled, *told.followers) if told.followers else None,
        step=step,
        perceptual_hash=told.perceptual_hash,
        reader=told.reader,
        codec=told.codec,
        added=told.added,
        looked_at=told.looked_at,
        unseen=told.unseen,
        regions=told.regions,
    )
