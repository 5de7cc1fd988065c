"""The torch modules behind the variants: safetensors in, safetensors out."""

from moderation.models.base import TextClassifier, TextScores
from moderation.models.load import load_text_classifier

__all__ = ["TextClassifier", "TextScores", "load_text_classifier"]
