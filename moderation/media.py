"""Images and videos on their way through the house: what may be sent, what a decoder made of it, why it would not.

Needs neither a decoder nor torch, so that every room may speak of media.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

MediaKind = Literal["image", "video"]

Code = Literal[
    "empty",  # no bytes
    "unknown_format",  # no picture or video that is known by its first bytes
    "unsupported_format",  # known, and not read here: SVG, TIFF, PDF, audio, a codec without a decoder
    "wrong_kind",  # an image where a video was told, or the other way round
    "truncated",  # ends too early
    "broken",  # the decoder refuses it
    "hidden_payload",  # an archive, a program or a page stands behind the picture
    "too_many_bytes",
    "too_many_pixels",
    "too_many_frames",
    "too_long",
    "no_video",  # a container without a picture in it
    "unreachable",  # its `uri` could not be read
    "not_allowed",  # its `uri` may not be read
    "unknown_media",  # its `sha256` is not held
]
"""Why a medium is refused: the client's to mend."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A medium that is refused.

    Attributes:
        code: why.
        detail: the same for people, with the value and the bound.
        bound: that is exceeded, in the unit of the code: bytes, pixels, frames, seconds.
        passing: whether it may be taken a moment later: where it lies could not be reached now.
    """

    code: Code
    detail: str
    bound: float | None = None
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A medium that may be good and was not read or scored: a decoder crashed, hung or ate memory; a model failed.

    Attributes:
        reason: for the decision and the log.
    """

    reason: str


MOST_STILL_PICTURES = 18
"""Of one still image: the whole and eight tiles, on white and on black."""
MOST_SPANS = 32
"""Of a video, that are told as not looked at."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A medium, decoded and sampled: all that the models, and the reader of text, see of it.

    Attributes:
        kind: as it was asked for; an animated GIF may be either.
        format: `jpeg`, `png`, `gif`, `webp`, `bmp`, `avif`; of a video its container: `mp4`, `webm`, `gif`, ...
        width, height: as shown, in pixels of the file: turned by EXIF or the container's rotation.
        frames: in the file, where that is known.
        seconds: how long it lasts; None: a still picture, of which every picture has time 0.
        pictures: what was sampled, RGB in [0, 255], transparency flattened on white, turned as shown, and made smaller
            where its longer side exceeded the rules' bound; shape (sampled, height, width, 3). A still picture that is
            far from square comes as a whole and in tiles; what is seen through comes on white and on black.
        times: when each is shown, in seconds from the beginning, ascending, equal where several pictures show one
            moment; shape (sampled,).
        followers: of a video, the frame shortly after each picture (before it, where it is the last), in grey in
            [0, 255], 160 px on the longer side: what moved; shape (sampled, height', width'). None: an image.
        step: seconds between a picture and its follower; shape (sampled,). None: an image.
        perceptual_hash: PDQ (Facebook, 2019) of the first picture, 64 hex digits, and its quality in [0, 100]; None:
            the picture is too small for one.
        reader: which library read it.
        codec: of a video.
        size: bytes of the file; 0 where nobody told.
        added: which pictures are looked at because they show something else than those that sampling chose.
        looked_at: share of its time, in [0, 1], that shows what the pictures show, or what is much like it; None: a
            still picture.
        unseen: when it shows something else, from and to in seconds; the longest, where there are many.
        regions: what each picture shows of the whole: left, top, right, bottom as shares of the whole's width and
            height; beyond [0, 1] there is nothing but ground. None: each shows the whole.
    """

    kind: MediaKind
    format: str
    width: int
    height: int
    frames: int | None
    seconds: float | None
    pictures: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float32]
    followers: npt.NDArray[np.uint8] | None
    step: npt.NDArray[np.float32] | None
    perceptual_hash: tuple[str, int] | None
    reader: Literal["pillow", "decord", "pyav"]
    codec: str | None = None
    size: int = 0
    added: tuple[int, ...] = ()
    looked_at: float | None = None
    unseen: tuple[tuple[float, float], ...] = ()
    regions: tuple[tuple[float, float, float, float], ...] | None = None


Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the picture's width and height, each in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Words:
    """Text that was read in a picture.

    Attributes:
        text: in reading order, one line of the picture a line.
        confidence: of the reader, in [0, 1].
        box: around all of it.
        t: when the picture is shown, in seconds; None: a still picture.
    """

    text: str
    confidence: float
    box: Box
    t: float | None


@dataclass(frozen=True, slots=True)
class Written:
    """What is written in a medium.

    Attributes:
        words: an entry a picture that has text that could be read; texts that are shown again come once.
        unreadable: where text stands that was not read: another script, too unclear, or beyond the rules' bounds. Not
            clean: not scored.
        unread: of a video or an animation, when pictures are shown that were looked at and not read, in seconds.
        share: of its pictures, in [0, 1], that were read, or are much like one that was.
    """

    words: tuple[Words, ...]
    unreadable: tuple[Box, ...]
    unread: tuple[float, ...] = ()
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class MediaRef:
    """Which bytes a model is asked of.

    Attributes:
        kind: what they are taken for.
        name: of the bytes in the media store: their SHA-256, or what a request without a record lent.
        work: that it will be to decode them, in megapixels; see `serve.media.glance`.
    """

    kind: MediaKind
    name: str
    work: int = 1


class Seen(NamedTuple):
    """Where a model saw a label: in the picture at `t` seconds (None: a still one), with that confidence in [0, 1]."""

    label: str
    t: float | None
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a variant's version found in a medium.

    Attributes:
        scores: calibrated confidence per label, each in [0, 1].
        seen: per label the picture in which it is surest.
        written: what is written in it; None: no reader of text looked.
        format, width, height, seconds, perceptual_hash: as in `Reading`, the hash in hexadecimal.
        size: bytes.
        looked_at, unseen: as in `Reading`.
    """

    scores: dict[str, float]
    seen: tuple[Seen, ...]
    written: Written | None
    format: str
    width: int
    height: int
    seconds: float | None
    perceptual_hash: str | None
    size: int | None = None
    looked_at: float | None = None
    unseen: tuple[tuple[float, float], ...] = ()


class ReadRules(BaseModel):
    """What is read of a medium: section `media.read` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_image_bytes: int = Field(default=20_000_000, ge=1)
    """Of one image."""
    max_video_bytes: int = Field(default=100_000_000, ge=1)
    """Of one video."""
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Width times height of one image, read from its header, before anything is decoded."""
    max_image_side: int = Field(default=65_535, ge=1, le=1_000_000)
    """Width, and height, of one image, in pixels: what a JPEG can have."""
    max_animation_pixels: int = Field(default=1_000_000_000, ge=1)
    """Width times height times frames of one animated image: to see its last frame all of them are decoded."""
    max_video_pixels: int = Field(default=9_000_000, ge=1)
    """Width times height of one video: 4K passes, 8K does not."""
    max_video_side: int = Field(default=16_384, ge=1, le=1_000_000)
    """Width, and height, of one video, in pixels."""
    max_image_frames: int = Field(default=1000, ge=1)
    """Of an animated image."""
    max_video_frames: int = Field(default=20_000, ge=1)
    """Of one video."""
    max_seconds: float = Field(default=60.0, gt=0)
    """Of one video, or of an animated image."""
    image_samples: int = Field(default=8, ge=1, le=256)
    """Pictures of an animated image that are looked at, spread over its time; those shown longest are among them."""
    video_samples: int = Field(default=32, ge=1, le=256)
    """Frames of a video that are looked at, at most."""
    least_samples: int = Field(default=8, ge=1, le=256)
    """A video with fewer key frames than that is sampled evenly, at this many frames or more."""
    max_gap_s: float = Field(default=2.0, gt=0)
    """Seconds between two frames that are looked at: key frames further apart are not enough."""
    scan_pixels: int = Field(default=800_000_000, ge=0)
    """Of all frames of a video or an animation that are scanned for what sampling leaves out; of one with more only the
    key frames are, and the rest is told as not looked at. 0: nothing is scanned."""
    added_samples: int = Field(default=16, ge=0, le=128)
    """Frames of a video, or pictures of an animation, that are looked at beside the others as they differ from them."""
    image_side: int = Field(default=1280, ge=64, le=8192)
    """Pixels of the longer side, beyond which an image is made smaller before anything looks at it."""
    video_side: int = Field(default=640, ge=64, le=8192)
    """The same for a video's frames."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.max_seconds > self.video_samples * self.max_gap_s:
            raise ValueError(
                f"max_seconds is {self.max_seconds}: {self.video_samples} video_samples with gaps of"
                f" {self.max_gap_s} s at most reach {self.video_samples * self.max_gap_s} s"
            )
        if self.least_samples > self.video_samples:
            raise ValueError(f"least_samples is {self.least_samples}, above video_samples, {self.video_samples}")
        return self


class OcrRules(BaseModel):
    """How text in pictures is read: section `media.ocr` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    enabled: bool = True
    """Whether it is read at all; otherwise what is written in pictures is not scored."""
    samples: int = Field(default=4, ge=1, le=64)
    """Pictures of a video, or of an animation of more than 8, that are read in any case, evenly spread over those
    sampled."""
    more_samples: int = Field(default=20, ge=0, le=256)
    """Others that are read where they differ from those, the most different first; when the rest is shown is told."""
    more_side: int = Field(default=512, ge=64, le=4096)
    """As `first_side`, of these: they are many."""
    first_side: int = Field(default=736, ge=64, le=4096)
    """Pixels of the longer side at which the detector first looks; its time grows with the square."""
    second_side: int = Field(default=1280, ge=64, le=4096)
    """The same where it saw text, for pictures that are larger than the first side."""
    least_height: float = Field(default=8.0, ge=1)
    """Pixels of a line, as sampled: lower text is left alone."""
    least_confidence: float = Field(default=0.945, ge=0, le=1)
    """Of a line among those of its picture, below which it is unreadable. Of rendered lines 2 to 4 in 100 of Latin
    and Chinese letters lie below 0.945, and all but 4 in 100 of Cyrillic ones."""
    least_found: float = Field(default=0.6, ge=0, le=1)
    """The detector's certainty, below which what cannot be read is taken for a pattern, not for text."""
    least_share: float = Field(default=0.15, ge=0, le=1)
    """Length of a line, as a share of the picture's longer side, below which nothing is made of it that it cannot be
    read: labels and logos."""
    most_boxes: int = Field(default=100, ge=1)
    """Of one picture; the largest are read, and where the others stand is told as unreadable."""
    most_characters: int = Field(default=10_000, ge=1)
    """Of one medium; where the rest stands is told as unreadable."""


class FetchRules(BaseModel):
    """Which `uri` of a medium is read, and how: section `media.fetch` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    buckets: tuple[str, ...] = ()
    """Buckets that an `s3://` address may name, each exactly; empty: none. They are read with the service's own
    credentials, so whoever may send a post may have anything in them looked at. `*`: all that those can read."""
    https_hosts: tuple[str, ...] = ()
    """Hosts that an `https://` address may name, in lower case, each exactly; empty: none."""
    https_ports: tuple[int, ...] = (443,)
    """Ports that it may name."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """From the first look-up to the last byte."""


class KeepRules(BaseModel):
    """How long bytes are kept: section `media.keep` of a topology."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    days: float = Field(default=180.0, gt=0)
    """After a post last used them; a post that waits for a person keeps its own."""
    unused_hours: float = Field(default=24.0, gt=0)
    """Of bytes that no post was recorded with: the request broke off, or was refused."""


class MediaRules(BaseModel):
    """Images and videos: section `media` of a topology. Each replica of the gateway counts for itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_media: int = Field(default=10, ge=1, le=100)
    """Of one post; beyond, 422."""
    max_features: int = Field(default=100, ge=1, le=1000)
    """Of one request to a stateless service; beyond, 422."""
    max_body_bytes: int = Field(default=250_000_000, ge=1024)
    """Of one upload as multipart/form-data; beyond, 413."""
    max_json_body_bytes: int = Field(default=16_000_000, ge=1024)
    """Of one JSON body that carries media as base64, which is held in memory; beyond, 413."""
    max_waiting_posts: int = Field(default=256, ge=1)
    """Posts with media that wait, and as many media that are only to be looked at (the stateless services); beyond, 503
    with Retry-After. They wait apart from posts without, and an upload is refused before it is received."""
    max_wait_ms: float = Field(default=15_000.0, gt=0)
    """How long a post with media waits for a group, as `gateway.max_wait_ms` does for the others."""
    group_size: int = Field(default=4, ge=1, le=64)
    """Posts with media that share one handle call."""
    max_in_flight: int = Field(default=4, ge=1, le=64)
    """Groups of them that are scored at a time; of large ones half as many."""
    small_megapixels: int = Field(default=25, ge=1)
    """To decode for all media of one post, up to which it is small: width times height times frames, a quarter of that
    for a JPEG. Small posts wait, and are read and judged, before large ones and in groups of no more than that. Each
    video is large."""
    max_post_megapixels: int = Field(default=1000, ge=1)
    """The same, of one post; beyond, 422. A video counts 50."""
    deadline_ms: float = Field(default=30_000.0, gt=0)
    """A model of images or videos that has not answered by then has failed for that post."""
    review_below: float = Field(default=0.0, ge=0, le=1)
    """Share of a video, or an animation, below which what was looked at of it, or whose text was read, sends its post
    to review. 0: the decision says so, and nothing more."""
    workers: int = Field(default=2, ge=1, le=64)
    """Processes that decode, of each replica that scores media. Where there are several, one of them is for small media
    alone."""
    read_timeout_s: float = Field(default=10.0, gt=0)
    """After which a decoder is taken to hang, and is ended."""
    worker_memory_mb: int = Field(default=1500, ge=256)
    """That a decoder may take."""
    read: ReadRules = ReadRules()
    ocr: OcrRules = OcrRules()
    fetch: FetchRules = FetchRules()
    keep: KeepRules = KeepRules()

    @property
    def large_in_flight(self) -> int:
        """Groups of large posts that are scored at a time; at least 1."""
        return max(1, self.max_in_flight // 2)
