"""The miniature's pretraining: the model, the plan and its cache."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from transformers import BertConfig, BertTokenizer

from spd_ray import cache, mlm
from spd_ray.miniature import corpus, lexicon

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


def pretrained_miniature(seed: int = 0) -> Path:
    """The folder of the miniature pretrained under `seed`: a plain transformers directory, built once and cached."""
    plan = asdict(replace(PLAN, seed=seed))
    recipe = {"version": VERSION, "model": MODEL, "plan": plan, "masking": MASKING, "embedding_std": EMBEDDING_STD}
    return cache.build_once("pretrained", cache.content_key(recipe), lambda folder: _build(folder, seed))


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


def _build(folder: Path, seed: int) -> None:
    documents, pairs = corpus.build_corpus()
    model = mlm.new_model(BertConfig(**MODEL), seed, EMBEDDING_STD)
    mlm.pretrain(model, documents, pairs, masking(), replace(PLAN, seed=seed))
    mlm.save(model, tokenizer(), folder)


def tokenizer() -> BertTokenizer:
    """The miniature's tokenizer: lower-casing WordPiece in which every word is one token."""
    vocabulary = {token: index for index, token in enumerate(corpus.VOCABULARY)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_TOKENS)
