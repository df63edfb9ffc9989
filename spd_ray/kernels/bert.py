"""What a BERT is to this room: which configurations it knows, and names and shapes of its parameters."""

from collections.abc import Iterator
from typing import Any

from spd_ray.base.errors import UserError


def check_architecture(config: Any) -> None:
    """Raises UserError unless `config` is of a BERT that the compiled encoder knows."""
    kind = getattr(config, "model_type", None)
    if kind != "bert":
        raise UserError(f"model_type {kind}: only encoders of BERT's structure (model_type bert) can be packed")
    wrong = [
        f"{key} {getattr(config, key, None)}, not {' or '.join(map(str, right))}"
        for key, right in {
            "hidden_act": ("gelu",),
            "position_embedding_type": ("absolute", None),
            "is_decoder": (False, None),
            "add_cross_attention": (False, None),
        }.items()
        if getattr(config, key, None) not in right
    ]
    if config.hidden_size % config.num_attention_heads or config.hidden_size // config.num_attention_heads % 4:
        wrong.append(
            f"hidden_size {config.hidden_size}, not a multiple of 4 for each of {config.num_attention_heads} heads"
        )
    if max(config.hidden_size * 3, config.intermediate_size) > 65536:
        wrong.append("wider than 65,536")
    if wrong:
        raise UserError(f"this BERT cannot be packed: {'; '.join(wrong)}")


def is_matrix(name: str) -> bool:
    """Whether a parameter of BERT's classifier is one of its prunable matrices.

    >>> is_matrix("bert.encoder.layer.0.output.dense.weight"), is_matrix("bert.pooler.dense.weight")
    (True, False)
    """
    return ".encoder.layer." in name and name.endswith(".weight") and "LayerNorm" not in name


def is_embedding(name: str) -> bool:
    """Whether a parameter of BERT's classifier is a table of embeddings.

    >>> is_embedding("bert.embeddings.word_embeddings.weight"), is_embedding("bert.embeddings.LayerNorm.weight")
    (True, False)
    """
    return name.endswith("_embeddings.weight")


def parameter_shapes(config: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the parameters of BERT's sequence classifier."""
    h, inner = config.hidden_size, config.intermediate_size
    yield "bert.embeddings.word_embeddings.weight", (config.vocab_size, h)
    yield "bert.embeddings.position_embeddings.weight", (config.max_position_embeddings, h)
    yield "bert.embeddings.token_type_embeddings.weight", (config.type_vocab_size, h)
    yield from _norm("bert.embeddings", h)
    for i in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from _linear(f"{layer}.attention.self.{part}", h, h)
        yield from _linear(f"{layer}.attention.output.dense", h, h)
        yield from _norm(f"{layer}.attention.output", h)
        yield from _linear(f"{layer}.intermediate.dense", inner, h)
        yield from _linear(f"{layer}.output.dense", h, inner)
        yield from _norm(f"{layer}.output", h)
    yield from _linear("bert.pooler.dense", h, h)
    yield from _linear("classifier", config.num_labels, h)


def _linear(name: str, out: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, inputs)
    yield f"{name}.bias", (out,)


def _norm(name: str, size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.LayerNorm.weight", (size,)
    yield f"{name}.LayerNorm.bias", (size,)
