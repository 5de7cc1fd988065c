"""`encoder`: a pretrained multilingual transformer, its upper layers adapted, pooled, and one logit a label.

It knows meaning, not only spelling: outside the kind of text that it was trained on it keeps far more than n-grams do,
at some three hundred times their cost. Only what training changed is stored: low-rank adapters (LoRA, Hu et al. 2021)
of the upper layers and the head, some 3 MB. The base is named by the card, read once a process, and never changed. In
languages of which it was shown little, what spellings say can be added (see `models.spelling`), and a head of their own
can say what the meaning comes to.

The base is a transformers model of BERT's build (`embeddings`, `encoder.layer`): a hub id, a local folder, or
`bundled`, the multilingual-e5-small inside a package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any  # Any: nn.Module's attributes are untyped

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer
from torch import nn

from moderation.errors import ModelError
from moderation.models.base import Prepared, TextClassifier, check_shapes, config_of
from moderation.models.bundled import unpack
from moderation.models.card import Card
from moderation.models.packed import PackedLinear, packed, packs
from moderation.models.seen import Bits, no_words, unseen_word_share
from moderation.models.spelling import Spelling, SpellingConfig, shapes_of
from moderation.preprocess.ngrams import hash_words
from moderation.preprocess.text import MENTION_TOKEN, URL_TOKEN
from moderation.settings import Settings

BUNDLED = "bundled"

_TOKENS_A_BATCH = 2048

_OWN = ("spelling.", "heads.")
DEPTHS = 3
"""At which a head of a language's own reads: a probe of several layers sees what the last has dropped (Peters et al.,
"Deep contextualized word representations", NAACL 2018)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """What an encoder is built from. Part of a model: changing it needs new weights."""

    base: str = BUNDLED
    """Hub id, local folder, or `bundled`."""
    frozen_layers: int = 6
    """Lower layers that stay as they are; their output can be computed once and kept while training."""
    rank: int = 16
    """Of the adapters."""
    max_tokens: int = 128
    """Of a longer text the encoder reads the first and last tokens, half each; tables of spellings, and windows
    (`preprocess.windows`), read it all."""
    spelling: SpellingConfig | None = None
    """Whose spellings are read beside the meaning; null: nobody's."""
    heads: tuple[str, ...] = ()
    """Languages with a head of their own, on what three depths of layers give; all others share one."""

    def __post_init__(self) -> None:
        if self.max_tokens < 4 or self.max_tokens % 2:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be even, 4 or more")


class EncoderModule(nn.Module):
    """The network: token ids -> logits, in two halves so that training need not repeat the lower one.

    Args:
        base: of BERT's build.
        labels: outputs.
        config: where the halves meet, and the adapters' rank.
    """

    def __init__(self, base: nn.Module, labels: int, config: EncoderConfig) -> None:
        super().__init__()
        known: Any = base  # nn.Module's attributes are untyped
        if not 0 <= config.frozen_layers < len(known.encoder.layer):
            bound = len(known.encoder.layer)
            raise ModelError(f"frozen_layers is {config.frozen_layers}; base {config.base!r} has {bound} layers")
        self.embeddings = known.embeddings.requires_grad_(False)
        self.lower = known.encoder.layer[: config.frozen_layers].requires_grad_(False)
        # The lower half is shared by all models on this base; the upper one is this model's own.
        upper = deepcopy(known.encoder.layer[config.frozen_layers :]).requires_grad_(False)
        adapters = LoraConfig(r=config.rank, lora_alpha=2 * config.rank, target_modules=r".*(query|key|value|dense)")
        self.upper: Any = inject_adapter_in_model(adapters, upper)
        hidden = int(known.config.hidden_size)
        self.head = nn.Linear(hidden, labels)
        self.heads = nn.ModuleList([nn.Linear(DEPTHS * hidden, labels) for _ in config.heads])
        self._places = {code: place for place, code in enumerate(config.heads, 1)}

    def below(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states (texts, tokens, hidden) under the adapted layers, of ids and a 0/1 mask (texts, tokens)."""
        return _through(self.lower, self.embeddings(input_ids=ids), mask)

    def places(self, languages: Sequence[str]) -> torch.Tensor:
        """Which head judges texts in these languages, (texts,): 0 the shared one, else the place in `config.heads`."""
        return torch.tensor([self._places.get(code, 0) for code in languages], dtype=torch.long)

    def states(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Means over tokens, (texts, `DEPTHS` * hidden): under the adapted layers, half way through, and above them."""
        half = len(self.upper) // 2
        between = _through(self.upper[:half], hidden, mask)
        return torch.cat(
            [_mean(each, mask) for each in (hidden, between, _through(self.upper[half:], between, mask))], 1
        )

    def above(self, hidden: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits (texts, labels) of hidden states under the adapted layers; `places` of the heads (see `places`)."""
        logits: torch.Tensor
        if not self.heads:
            logits = self.head(_mean(_through(self.upper, hidden, mask), mask))
            return logits
        states = self.states(hidden, mask)
        logits = self.head(states[:, -self.head.in_features :])
        for place, head in enumerate(self.heads, 1):
            logits = torch.where((places == place)[:, None], head(states), logits)
        return logits

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Logits (texts, labels)."""
        return self.above(self.below(ids, mask), mask, places)

    def pack(self) -> None:
        """Lay the layers out for scoring, once adapters are merged; where this machine cannot, they stay."""
        if packs():
            self.lower = packed(self.lower)
            for part in self.upper.modules():
                if isinstance(part, LoraLayer) and isinstance(part.base_layer, nn.Linear):
                    part.base_layer = PackedLinear(part.base_layer)

    def learned(self) -> dict[str, torch.Tensor]:
        """The parameters that training changes, by name: adapters and head."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the tokens that the mask (texts, tokens) has, (texts, hidden)."""
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _through(layers: Iterable[nn.Module], hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Hidden states (texts, tokens, hidden) after layers of BERT's build; 0 where the mask (texts, tokens) is.

    Texts are of all lengths, and one that is long would make the others of its batch as long. So padding is left out of
    everything but attention, which is little of the work: Zeng et al., "Boosting Distributed Training Performance of
    the Unpadded BERT Model", 2022.
    """
    texts, tokens, size = hidden.shape
    places = mask.flatten().nonzero()[:, 0]

    def pad(packed: torch.Tensor) -> torch.Tensor:
        return packed.new_zeros(texts * tokens, packed.shape[-1]).index_copy(0, places, packed)

    def heads(packed: torch.Tensor, count: int) -> torch.Tensor:
        return pad(packed).view(texts, tokens, count, -1).transpose(1, 2)

    packed = hidden.reshape(-1, size)[places]
    for layer in layers:
        known: Any = layer  # nn.Module's attributes are untyped
        own = known.attention.self
        projected = (project(packed) for project in (own.query, own.key, own.value))
        query, key, value = (heads(each, own.num_attention_heads) for each in projected)
        mixed = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask[:, None, None, :].bool(),
            dropout_p=own.dropout.p if layer.training else 0.0,
        )
        packed = known.attention.output(mixed.transpose(1, 2).reshape(texts * tokens, -1)[places], packed)
        packed = known.output(known.intermediate(packed), packed)
    return pad(packed).view(texts, tokens, size)


class EncoderClassifier(TextClassifier):
    """The `encoder` architecture. What was learned is kept as float16; it computes in float32."""

    architecture = "encoder"

    def __init__(
        self, card: Card, module: EncoderModule, tokenizer: Tokenizer, seen: Bits, spelling: Spelling | None = None
    ) -> None:
        super().__init__(card, seen)
        self._config = _config_of(card)
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.spelling = spelling

    @property
    def config(self) -> EncoderConfig:
        """See `TextClassifier.config`."""
        return self._config

    @classmethod
    def from_tensors(cls, card: Card, tensors: Mapping[str, torch.Tensor]) -> EncoderClassifier:
        """Build from uint8 `seen` (bits / 8,) and the float16 tensors of `EncoderModule.learned` and `Spelling`."""
        config = _config_of(card)
        base, tokenizer = load_base(config.base)
        module = EncoderModule(base, len(card.labels), config)
        learned = module.learned()
        shapes = {name: tuple(value.shape) for name, value in learned.items()} | {"seen": no_words().shape}
        check_shapes(tensors, shapes | shapes_of(config.spelling, len(card.labels)))
        spelling = None if config.spelling is None else Spelling.from_tensors(config.spelling, tensors)
        with torch.no_grad():
            for name, parameter in learned.items():
                parameter.copy_(tensors[name])
        for part in module.modules():
            if isinstance(part, LoraLayer):
                part.merge()  # folded into the layer's weights: scoring pays nothing for them
        module.pack()
        return cls(card, module, tokenizer, tensors["seen"].numpy(), spelling)

    def with_own(self, spelling: Spelling | None, heads: Mapping[str, nn.Linear]) -> EncoderClassifier:
        """The same model with these spellings and heads of languages' own in place of what it had, not calibrated."""
        config = replace(self.config, spelling=None if spelling is None else spelling.config, heads=tuple(heads))
        tensors = {name: value for name, value in self.tensors().items() if not name.startswith(_OWN)}
        tensors |= {
            f"heads.{place}.{name}": value.to(torch.float16)
            for place, head in enumerate(heads.values())
            for name, value in head.state_dict().items()
        }
        card = replace(self.card, config=asdict(config), calibration={}, curves={})
        return self.from_tensors(card, tensors if spelling is None else tensors | spelling.tensors())

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        learned = {
            name: value.detach().to("cpu", torch.float16).contiguous() for name, value in self.module.learned().items()
        }
        spelled = {} if self.spelling is None else self.spelling.tensors()
        return learned | spelled | {"seen": torch.from_numpy(self.seen.copy())}

    def on_gpu(self) -> EncoderClassifier:
        """See `TextClassifier.on_gpu`; the base, which all models of a process share, goes with it."""
        if torch.cuda.is_available():
            self.module.to("cuda")
        return self

    @property
    def own_languages(self) -> tuple[str, ...]:
        """See `TextClassifier.own_languages`."""
        spelled = () if self.config.spelling is None else self.config.spelling.languages
        return tuple(dict.fromkeys((*spelled, *self.config.heads)))

    def logits(self, texts: Prepared) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `TextClassifier.logits`."""
        outputs = self._run(texts, len(self.card.labels), self.module)
        if self.spelling is not None:
            outputs += self.spelling.logits(texts, len(self.card.labels))
        return outputs, unseen_word_share(self.seen, *hash_words(texts.folded))

    def reads_whole(self, cleaned: str) -> bool:
        """See `TextClassifier.reads_whole`."""
        most = self.config.max_tokens
        # No token is shorter than a character, but for the two at the ends and one that begins a text.
        return len(cleaned) <= most - 3 or len(next(_encoded(self.tokenizer, [cleaned]))) <= most

    def states(self, texts: Prepared) -> npt.NDArray[np.float32]:
        """What heads of languages' own read, (texts, `DEPTHS` * hidden)."""

        def states(ids: torch.Tensor, mask: torch.Tensor, _places: torch.Tensor) -> torch.Tensor:
            return self.module.states(self.module.below(ids, mask), mask)

        return self._run(texts, DEPTHS * self.module.head.in_features, states)

    def _run(self, texts: Prepared, width: int, network: Callable[..., torch.Tensor]) -> npt.NDArray[np.float32]:
        """What the network makes of ids, a mask and places of heads: (texts, width)."""
        tokens = tokenise(self.tokenizer, texts.cleaned, self.config.max_tokens)
        places = self.module.places(texts.languages)
        # A text in several languages, of which most share a head, is one to the network.
        alike: dict[tuple[int, ...], int] = {}
        once: list[int] = []
        for row, (ids, place) in enumerate(zip(tokens, places.tolist(), strict=True)):
            if alike.setdefault((place, *ids), len(once)) == len(once):
                once.append(row)
        outputs = np.zeros((len(once), width), dtype=np.float32)
        device = self.module.head.weight.device
        with torch.inference_mode():
            for batch in batches_by_length([len(tokens[row]) for row in once], _TOKENS_A_BATCH):
                rows = [once[number] for number in batch]
                given = (*padded([tokens[row] for row in rows]), places[rows])
                outputs[batch] = network(*(each.to(device) for each in given)).cpu().numpy()
        return outputs[[alike[place, *ids] for ids, place in zip(tokens, places.tolist(), strict=True)]]


def _config_of(card: Card) -> EncoderConfig:
    # A model of before there were spellings, or heads of languages' own, has none.
    return config_of(replace(card, config={"spelling": None, "heads": ()} | card.config), EncoderConfig)


@lru_cache(maxsize=2)
def load_base(name: str) -> tuple[nn.Module, Tokenizer]:
    """The pretrained model, in float32, and its tokenizer; read once a process and shared.

    Raises:
        ModelError: there is none of that name, it holds no safetensors, or it is not of BERT's build.
    """
    from transformers import AutoModel, AutoTokenizer

    place = str(unpack(Settings.from_environment().bases / "multilingual-e5-small")) if name == BUNDLED else name
    try:
        base = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True, add_pooling_layer=False)
        tokenizer = AutoTokenizer.from_pretrained(place, use_fast=True).backend_tokenizer
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"base {name!r} cannot be loaded: {error}") from error
    if not hasattr(base, "embeddings") or not hasattr(getattr(base, "encoder", None), "layer"):
        raise ModelError(f"base {name!r} is a {type(base).__name__}, which is not of BERT's build")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return base.eval(), tokenizer


def tokenise(tokenizer: Tokenizer, cleaned: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of cleaned texts, special tokens included; of a long text the first and last halves."""
    half = max_tokens // 2
    return [ids if len(ids) <= max_tokens else ids[:half] + ids[-half:] for ids in _encoded(tokenizer, cleaned)]


def _encoded(tokenizer: Tokenizer, cleaned: Sequence[str]) -> Iterator[list[int]]:
    """Token ids of cleaned texts, all of them."""
    texts = [text.replace(URL_TOKEN, "http").replace(MENTION_TOKEN, "@user") for text in cleaned]
    return (found.ids for found in tokenizer.encode_batch_fast(texts))


def batches_by_length(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length: padding is work for nothing.

    Args:
        lengths: tokens of each row.
        tokens: in a batch, padding included, at most; a longer row is a batch of its own.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and a 0/1 mask, both (rows, longest); what is masked counts for nothing, whatever stands there."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest)
    for row, found in enumerate(rows):
        ids[row, : len(found)] = torch.tensor(found)
        mask[row, : len(found)] = 1
    return ids, mask
