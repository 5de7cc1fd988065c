"""The torch modules behind the variants: safetensors in, safetensors out."""
