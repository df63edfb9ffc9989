"""The miniature's pretraining: the model, the plan and its cache."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BertConfig, BertTokenizer

from spd_ray.base import cache
from spd_ray.data.miniature import corpus, lexicon
from spd_ray.training import mlm

KIND = "pretrained"  # of the cache
VERSION = 2  # count it up when the language, the corpus or the loop changes: the cache cannot see code
STEPS = 7_500
MAX_TOKENS = 24
HIDDEN = 64
MODEL = {
    "vocab_size": len(corpus.VOCABULARY),
    "hidden_size": HIDDEN,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": MAX_TOKENS,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.55 / HIDDEN**0.5,
}
MINIATURES = {"miniature": 4, "miniature-8": 8, "miniature-12": 12}  # encoder layers; the first is the default
EMBEDDING_STD = 0.05
PLAN = mlm.Plan(
    steps=STEPS,
    batch_size=32,
    learning_rate=1.5e-3,
    warmup_steps=100,
    mlm_only_steps=STEPS // 5,
    joint_masking=2 / 3,
    pair_weight=3.0,
)
MASKING = {"content": 0.30, "function": 0.05, "kept": 0.15, "random": 0.10}


def pretrained_miniature(name: str = "miniature", seed: int = 0) -> Path:
    """The folder of the miniature `name` (of MINIATURES) pretrained under `seed`: a plain transformers directory.

    It is built once and cached.
    """
    model, plan, key = _recipe(name, seed)
    return cache.build_once(KIND, key, lambda folder: _build(folder, model, plan))


def is_pretrained(name: str, seed: int) -> bool:
    """Whether nothing need be pretrained for the model `name`: it is no miniature, or one that the cache has."""
    return name not in MINIATURES or cache.folder_of(KIND, _recipe(name, seed)[-1]).is_dir()


def save_untrained(name: str, folder: Path) -> None:
    """Write the miniature `name` with random weights into `folder`: the shape of `pretrained_miniature`."""
    model, plan, _ = _recipe(name, seed=0)
    mlm.save(mlm.new_model(BertConfig(**model), plan.seed, EMBEDDING_STD), tokenizer(), folder)


def _recipe(name: str, seed: int) -> tuple[dict[str, Any], mlm.Plan, str]:
    """The model's shape, its training, and the key of both in the cache."""
    model, plan = {**MODEL, "num_hidden_layers": MINIATURES[name]}, replace(PLAN, seed=seed)
    recipe = {"model": model, "plan": asdict(plan), "masking": MASKING, "embedding_std": EMBEDDING_STD}
    return model, plan, cache.content_key({"version": VERSION, **recipe})


def masking() -> mlm.Masking:
    """Content words are chosen with 0.30, function words with 0.05; of these 75% hidden, 15% kept, 10% random."""
    words = len(corpus.VOCABULARY) - len(corpus.SPECIAL_TOKENS)
    functions = len(lexicon.FUNCTION_WORDS)
    rates = np.repeat(
        (0.0, MASKING["function"], MASKING["content"]), (len(corpus.SPECIAL_TOKENS), functions, words - functions)
    )
    return mlm.Masking(
        rates=rates,
        words=np.arange(len(corpus.SPECIAL_TOKENS), len(corpus.VOCABULARY)),
        mask_id=corpus.VOCABULARY.index("[MASK]"),
        kept=MASKING["kept"],
        random=MASKING["random"],
    )


def _build(folder: Path, shape: dict[str, Any], plan: mlm.Plan) -> None:
    documents, pairs = corpus.build_corpus()
    model = mlm.new_model(BertConfig(**shape), plan.seed, EMBEDDING_STD)
    mlm.pretrain(model, documents, pairs, masking(), plan)
    mlm.save(model, tokenizer(), folder)


def tokenizer() -> BertTokenizer:
    """The miniature's tokenizer: lower-casing WordPiece in which every word is one token."""
    vocabulary = {token: index for index, token in enumerate(corpus.VOCABULARY)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_TOKENS)
