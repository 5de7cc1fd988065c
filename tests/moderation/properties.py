"""How hypothesis looks for counterexamples here: the same ones on every machine, with nothing left on disk."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

few = settings(max_examples=50, deadline=None, database=None, derandomize=True)
many = settings(max_examples=120, deadline=None, database=None, derandomize=True)

any_text = st.text(st.characters(exclude_categories=()), max_size=60)
"""Every code point there is, lone surrogates too."""

tricky_text = st.lists(
    st.sampled_from(
        [
            *"aAeEß19_ \t\n.,!?@/&;[]|",
            "\u200b", "\u202e", "\ufeff", "\u0301", "\u0130", "\ud800", "\ufb03", "🍅", "你", "ه", "か",
            "aaa", "LOOOL", "http", "https://", "www.", "@ann", "u/ann", "/u/", "[id7|", "&amp;", "&#65;",
        ]
    ),
    max_size=24,
).map("".join)  # fmt: skip
"""Pieces that the preprocessing has an opinion on, in any order."""
