"""All that is judged of one text beside the text as a whole: its windows, and what a reader sees where that is another.

Each further look is a further chance of error, so the surest of many windows counts for less than a single one would:
its odds are divided by their number (Bonferroni's correction). Measured on harmless texts of many sentences
(docs/measured.md), a long one is then flagged about as often as a short one, or less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

from moderation.preprocess.sight import readings
from moderation.preprocess.text import clean
from moderation.preprocess.windows import LONG, windows

_MOST_READINGS = 3


@dataclass(frozen=True, slots=True)
class Views:
    """What is judged beside a text as a whole.

    Attributes:
        further: cleaned texts, each with what is taken off its calibrated logits.
        everything: whether nothing of the text is left unread.
    """

    further: tuple[tuple[str, float], ...]
    everything: bool


def views(text: str, cleaned: str, reads_whole: Callable[[str], bool], *, by_windows: bool = True) -> Views:
    """Look at a text again where that may show more; most texts have nothing more to show.

    Args:
        text: as posted.
        cleaned: as `clean` returned it.
        reads_whole: whether the model reads all of a cleaned text, and not its ends alone.
        by_windows: False: what is looked for is said by a text as a whole, so one that is read whole is not cut.
    """
    others = [other for other in dict.fromkeys(map(clean, readings(text))) if other != cleaned][:_MOST_READINGS]
    further = [(other, 0.0) for other in others]
    everything = True
    for view in (cleaned, *others):
        if not by_windows and reads_whole(view):
            continue
        found = windows(view, longest=LONG if len(view) > 3 * LONG or reads_whole(view) else 0)
        less = discount(len(found.parts))
        further += [(part, less) for part in found.parts]
        everything = everything and found.everything and all(map(reads_whole, found.parts))
    return Views(tuple(further), everything)


def discount(count: int) -> float:
    """What is taken off the calibrated logits of that many windows: the logarithm of their number."""
    return log(max(1, count))
