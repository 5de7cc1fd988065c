"""`moderation.models.encoder`: padding is left out, and changes nothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel

from moderation.errors import ModelError
from moderation.models.base import Prepared
from moderation.models.encoder import EncoderClassifier, EncoderConfig, EncoderModule, batches_by_length, padded
from moderation.models.seen import no_words
from tests.moderation.models.making import a_card
from tests.moderation.properties import many

CONFIG = EncoderConfig(base="tiny", frozen_layers=1, rank=2)
lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def base() -> BertModel:
    """Of BERT's build, tiny, at random, the same one every time."""
    torch.manual_seed(3)
    tiny = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32)
    return BertModel(tiny, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def module(base: BertModel) -> EncoderModule:
    """Not trained: its adapters add nothing."""
    return EncoderModule(base, 2, CONFIG).eval()


def given_of(rows: list[list[int]], place: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, a mask and the place of the head, of each row."""
    return *padded(rows), torch.full((len(rows),), place)


def some_rows(of: list[int]) -> list[list[int]]:
    return [[(7 * row + place) % 50 for place in range(length)] for row, length in enumerate(of)]


@many
@given(lengths)
def test_layers_say_what_the_base_says_of_padded_texts(base: BertModel, module: EncoderModule, of: list[int]) -> None:
    ids, mask, places = given_of(some_rows(of))
    with torch.inference_mode():
        expected = base(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
        pooled = expected.sum(1) / mask.sum(1, keepdim=True)
        torch.testing.assert_close(module(ids, mask, places), module.head(pooled))


@many
@given(lengths)
def test_a_text_is_judged_as_if_it_were_alone(module: EncoderModule, of: list[int]) -> None:
    rows = some_rows(of)
    with torch.inference_mode():
        alone = torch.cat([module(*given_of([row])) for row in rows])
        torch.testing.assert_close(module(*given_of(rows)), alone)


@pytest.mark.parametrize("of", [[1], [3, 12, 7], [9] * 40])
def test_packed_layers_say_nearly_the_same_and_keep_what_was_learned(base: BertModel, of: list[int]) -> None:
    module, plain = (EncoderModule(base, 2, CONFIG).eval() for _ in range(2))
    for name, value in module.learned().items():
        if ".lora_B." in name:
            torch.nn.init.normal_(value, std=0.1)  # adapters that add nothing would tell nothing
    plain.load_state_dict(module.state_dict())
    for part in module.modules():
        if isinstance(part, LoraLayer):
            part.merge()
    module.pack()
    given = given_of(some_rows(of))
    with torch.inference_mode():
        torch.testing.assert_close(module(*given), plain(*given), atol=2e-3, rtol=1e-2)
    assert module.learned().keys() == plain.learned().keys()


def test_what_is_masked_counts_for_nothing(module: EncoderModule) -> None:
    ids, mask, places = given_of(some_rows([3, 9]))
    others = torch.where(mask == 0, torch.tensor(49), ids)
    with torch.inference_mode():
        assert torch.equal(module(ids, mask, places), module(others, mask, places))
        assert not module.below(others, mask)[mask == 0].any()


def test_a_language_with_a_head_of_its_own_is_judged_by_it_and_the_others_by_theirs(base: BertModel) -> None:
    module = EncoderModule(base, 2, replace(CONFIG, heads=("de", "ru"))).eval()
    shared = EncoderModule(base, 2, CONFIG).eval()
    shared.load_state_dict(module.state_dict(), strict=False)
    assert module.places(["ru", "en", "*", "de"]).tolist() == [2, 0, 0, 1]
    ids, mask = padded(some_rows([3, 7, 5, 7]))
    with torch.inference_mode():
        found = module(ids, mask, module.places(["ru", "en", "*", "de"]))
        states = module.states(module.below(ids, mask), mask)
        others = shared(ids, mask, shared.places(["ru", "en", "*", "de"]))
        torch.testing.assert_close(found[0], module.heads[1](states[0]))
        torch.testing.assert_close(found[3], module.heads[0](states[3]))
        torch.testing.assert_close(found[1:3], others[1:3])
        torch.testing.assert_close(module.head(states[:, -16:]), others)
        assert not torch.allclose(found[0], others[0])


@pytest.mark.parametrize("heads", [(), ("de", "ru")])
def test_every_adapter_and_head_learns_from_texts_of_all_lengths(base: BertModel, heads: tuple[str, ...]) -> None:
    module = EncoderModule(base, 2, replace(CONFIG, heads=heads)).train()
    for name, value in module.learned().items():
        if ".lora_B." in name:
            torch.nn.init.normal_(value)  # from zero, the other half of an adapter learns nothing at first
    ids, mask = padded(some_rows([2, 5, 11]))
    places = module.places(["en", "de", "ru"])
    module.above(module.below(ids, mask), mask, places).square().sum().backward()  # type: ignore[no-untyped-call]  # untyped
    assert all(value.grad is not None and value.grad.any() for value in module.learned().values())
    assert not any(value.requires_grad for value in module.lower.parameters())


def test_more_frozen_layers_than_there_are_is_an_error(base: BertModel) -> None:
    with pytest.raises(ModelError, match="frozen_layers is 3; base 'tiny' has 3 layers"):
        EncoderModule(base, 2, EncoderConfig(base="tiny", frozen_layers=3))


@many
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_batches_hold_each_row_once_and_no_more_tokens_than_allowed(of: list[int], most: int) -> None:
    batches = list(batches_by_length(of, most))
    assert sorted(row for batch in batches for row in batch) == list(range(len(of)))
    assert all(len(batch) == 1 or len(batch) * max(of[row] for row in batch) <= most for batch in batches)
    assert [of[row] for batch in batches for row in batch] == sorted(of)


def test_it_computes_where_its_weights_are(module: EncoderModule) -> None:
    words = Tokenizer(WordLevel({"[UNK]": 0, "you": 1, "there": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    card = a_card(architecture="encoder", config=asdict(CONFIG))
    texts = Prepared.of(["you there", "you"])
    here = EncoderClassifier(card, module, words, no_words())
    assert here.on_gpu().logits(texts)[0].shape == (2, 2)
    # On a device that holds no values: that ids and mask went there is all that it can tell.
    nowhere = EncoderClassifier(card, deepcopy(module).to("meta"), words, no_words())
    with pytest.raises(NotImplementedError, match="nonzero"):
        nowhere.logits(texts)
