"""What pages for people show: indented blocks of code."""

from __future__ import annotations

import re
import textwrap

from moderation.settings import REPOSITORY


def blocks(page: str) -> list[str]:
    """A page's indented blocks, without their indentation."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    return [textwrap.dedent(block).strip() for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)]
