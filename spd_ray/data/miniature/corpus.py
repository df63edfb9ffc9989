"""What the miniature is pretrained on: synthetic documents for MLM and pairs for next-sentence prediction (NSP).

No task's labels are in it, but its hard negatives for NSP are near neighbours of the entailment task.
"""

import random
from typing import NamedTuple

import numpy as np

from spd_ray.data.corpus import Rows
from spd_ray.data.miniature import language, lexicon
from spd_ray.data.miniature.language import Sentence

DOCUMENTS = 60_000
PAIRS = 30_000
RESTATEMENTS, NARRATIVES = 0.70, 0.15  # shares of the documents; the rest are lone sentences
RESTATED, REFUTED = 0.35, 0.5  # probability that `derive` changes a slot, of a restatement and of a hard negative
HARD_NEGATIVES = 0.5  # share, of the negatives whose first segment has a restatement
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL_TOKENS, *lexicon.FUNCTION_WORDS, *lexicon.CONTENT_WORDS)
MAX_LENGTH = 18  # [CLS], 7 words, [SEP]; `so` or `indeed`, 7 words, [SEP]
_SEED = 70_15_15

_TOKEN_ID = {token: index for index, token in enumerate(VOCABULARY)}


class Document(NamedTuple):
    """One or two segments of words. `premise` is the event of the first."""

    premise: Sentence
    first: list[str]
    second: list[str] | None
    kind: str  # "restatement", "narrative" or "lone"


def random_document(rng: random.Random, kinds: tuple[str, ...] = ("restatement", "narrative", "lone")) -> Document:
    """A restatement (0.70), a narrative (0.15) or a lone sentence (0.15); among `kinds`, in these proportions."""
    shares = {"restatement": RESTATEMENTS, "narrative": NARRATIVES, "lone": 1 - RESTATEMENTS - NARRATIVES}
    kind = rng.choices(kinds, [shares[kind] for kind in kinds])[0]
    premise = language.random_sentence(rng)
    second = None
    if kind == "restatement":
        second = language.spell_with_connective(rng, language.derive(rng, premise, RESTATED))
    elif kind == "narrative":
        second = language.spell(next_event(rng, premise))
    return Document(premise, language.spell(premise), second, kind)


def next_event(rng: random.Random, premise: Sentence) -> Sentence:
    """A new event that one participant of `premise` takes part in, named by its hypernym (0.4) or a synonym."""
    participant = getattr(premise, rng.choice(language.NOUN_SLOTS))
    hypernym = rng.random() < 0.4
    name = lexicon.Noun(participant.category, None, 0) if hypernym else lexicon.redraw_synonym(rng, participant)
    while True:
        slot = rng.choice(language.NOUN_SLOTS)
        event = language.with_word(language.random_sentence(rng), slot, name)
        other = event.object if slot == "subject" else event.subject
        if language.is_licensed(event) and not lexicon.same_meaning(participant, other):
            return event


def refute(rng: random.Random, premise: Sentence) -> Sentence:
    """A sentence that does not follow from `premise`: one slot of the event redrawn, then derived with 0.5.

    Half of the words are redrawn among the near ones (co-hyponyms, antonyms), half from a random sentence.
    """
    while True:
        slot = rng.choice([slot for slot in language.SLOTS if getattr(premise, slot) is not None])
        near = lexicon.near_words(getattr(premise, slot))
        word = rng.choice(near) if rng.random() < 0.5 else getattr(language.random_sentence(rng, 1.0), slot)
        event = language.with_word(premise, slot, word)
        if language.is_licensed(event) and not lexicon.same_meaning(event.subject, event.object):
            refuted = language.derive(rng, event, REFUTED)
            if not language.entails(premise, refuted):
                return refuted


def random_pair(rng: random.Random, follows: bool) -> tuple[list[str], list[str], str]:
    """Two segments and what they are: "true", or of the negatives "hard" or "random"."""
    document = random_document(rng, kinds=("restatement", "narrative"))
    if follows:
        second, kind = document.second, "true"
    elif document.kind == "restatement" and rng.random() < HARD_NEGATIVES:
        second, kind = language.spell_with_connective(rng, refute(rng, document.premise)), "hard"
    else:
        second, kind = random_document(rng, kinds=("restatement", "narrative")).second, "random"
    assert second is not None
    return document.first, second, kind


def encode(segments: list[tuple[list[str], list[str] | None]], labels: list[int]) -> Rows:
    """`segments` as token ids, laid out as BERT does it: `[CLS] first [SEP]`, then `second [SEP]` with type 1."""
    ids = np.zeros((len(segments), MAX_LENGTH), dtype=np.int32)
    types = np.zeros_like(ids)
    for row, (first, second) in enumerate(segments):
        tokens = ["[CLS]", *first, "[SEP]"]
        start = len(tokens)
        if second is not None:
            tokens += [*second, "[SEP]"]
        ids[row, : len(tokens)] = [_TOKEN_ID[token] for token in tokens]
        types[row, start : len(tokens)] = 1
    return Rows(ids, types, np.array(labels, dtype=np.int64))


def build_corpus() -> tuple[Rows, Rows]:
    """The documents for MLM (labels unused) and the pairs for NSP (label 0: the second follows, 1: it does not)."""
    rng = random.Random(_SEED)
    documents = [random_document(rng) for _ in range(DOCUMENTS)]
    pairs = [random_pair(rng, follows=index % 2 == 0) for index in range(PAIRS)]
    return (
        encode([(document.first, document.second) for document in documents], [0] * DOCUMENTS),
        encode([(first, second) for first, second, _ in pairs], [index % 2 for index in range(PAIRS)]),
    )
