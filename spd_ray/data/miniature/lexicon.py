"""The miniature's words: what each means, what licenses what, and their invented spellings. All synthetic.

Meaning is decided by structure alone:
- a noun is a hypernym (the name of its category) or one of the category's concepts, which has two synonyms;
- a verb is one pole of an antonym pair and has two synonyms; the two poles select the same subjects and objects;
- an adjective is one pole of a dimension, has two synonyms, and is licensed for three of the six categories.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

CATEGORIES = range(6)
ANIMATE = (0, 1, 2)
CONCEPTS_PER_CATEGORY = 6
VERB_PAIRS = 8
ADJECTIVE_CATEGORIES = ((0, 2, 4), (2, 3, 4), (2, 4, 5), (0, 1, 3), (1, 3, 5), (1, 2, 4), (0, 1, 5), (0, 3, 5))
FUNCTION_WORDS = ("was", "by", "so", "indeed")
CONNECTIVES = ("so", "indeed")
_LEXICON_SEED = 20220522


@dataclass(frozen=True)
class Noun:
    """`concept` is None for the category's hypernym, which has no synonym."""

    category: int
    concept: int | None
    synonym: int

    @property
    def meaning(self) -> tuple[int, int | None]:
        """What synonyms share."""
        return self.category, self.concept


@dataclass(frozen=True)
class Verb:
    """`pole` is the side of the antonym pair."""

    pair: int
    pole: int
    synonym: int

    @property
    def meaning(self) -> tuple[int, int]:
        """What synonyms share."""
        return self.pair, self.pole


@dataclass(frozen=True)
class Adjective:
    """`pole` is the side of the dimension."""

    dimension: int
    pole: int
    synonym: int

    @property
    def meaning(self) -> tuple[int, int]:
        """What synonyms share."""
        return self.dimension, self.pole


Word = Noun | Verb | Adjective


CONCEPTS = tuple((category, concept) for category in CATEGORIES for concept in range(CONCEPTS_PER_CATEGORY))
NOUNS = tuple(Noun(category, concept, synonym) for category, concept in CONCEPTS for synonym in (0, 1))
HYPERNYMS = tuple(Noun(category, None, 0) for category in CATEGORIES)
VERBS = tuple(Verb(pair, pole, synonym) for pair in range(VERB_PAIRS) for pole in (0, 1) for synonym in (0, 1))
ADJECTIVES = tuple(
    Adjective(dimension, pole, synonym)
    for dimension in range(len(ADJECTIVE_CATEGORIES))
    for pole in (0, 1)
    for synonym in (0, 1)
)


def _spellings() -> dict[Word, str]:
    """An invented word for every meaning: nouns end in a consonant, verbs in -es, adjectives in -y."""
    rng = random.Random(_LEXICON_SEED)
    used: set[str] = set()

    def invent(ending: str) -> str:
        while True:
            syllables = ("".join((rng.choice("bdfgklmnprstvz"), rng.choice("aeiou"))) for _ in range(2))
            word = "".join(syllables) + ending
            if word not in used:
                used.add(word)
                return word

    nouns: dict[Word, str] = {noun: invent(rng.choice("klmnrt")) for noun in HYPERNYMS + NOUNS}
    verbs: dict[Word, str] = {verb: invent(rng.choice("dglmv") + "es") for verb in VERBS}
    adjectives: dict[Word, str] = {adjective: invent(rng.choice("dlnsv") + "y") for adjective in ADJECTIVES}
    return nouns | verbs | adjectives


def _objects() -> tuple[frozenset[int], ...]:
    """The categories that each verb pair takes as its object: two animate, two inanimate."""
    rng = random.Random(_LEXICON_SEED + 1)
    inanimate = [category for category in CATEGORIES if category not in ANIMATE]
    return tuple(frozenset(rng.sample(ANIMATE, 2) + rng.sample(inanimate, 2)) for _ in range(VERB_PAIRS))


SPELLING = _spellings()
MEANING = {spelling: word for word, spelling in SPELLING.items()}
OBJECT_CATEGORIES = _objects()
CONTENT_WORDS = tuple(SPELLING.values())


def licensed_categories(verb: Verb, slot: str) -> frozenset[int]:
    """The categories that `verb` takes in `slot`, "subject" or "object"."""
    return frozenset(ANIMATE) if slot == "subject" else OBJECT_CATEGORIES[verb.pair]


def takes(noun: Noun, adjective: Adjective | None) -> bool:
    """Whether `adjective` is licensed for the category of `noun`."""
    return adjective is None or noun.category in ADJECTIVE_CATEGORIES[adjective.dimension]


def same_meaning(word: Word | None, other: Word | None) -> bool:
    """Whether two words of one slot are the same or synonyms."""
    return type(word) is type(other) and (word is None or other is None or word.meaning == other.meaning)


def entailed_word(rng: random.Random, word: Word) -> Word:
    """Another word that follows from `word`: its synonym, or for half of the nouns the hypernym."""
    if isinstance(word, Noun) and rng.random() < 0.5:
        return Noun(word.category, None, 0)
    return replace(word, synonym=1 - word.synonym)


def near_words(word: Word) -> list[Word]:
    """The other concepts of a noun's category; the antonyms of a verb or an adjective."""
    words: dict[type, Sequence[Word]] = {Noun: NOUNS, Verb: VERBS, Adjective: ADJECTIVES}
    return [
        other
        for other in words[type(word)]
        if other.meaning[0] == word.meaning[0] and other.meaning[1] != word.meaning[1]
    ]


def far_words(word: Word) -> list[Word]:
    """The hypernyms of other categories for a noun; the other verbs, the adjectives of other dimensions."""
    words: dict[type, Sequence[Word]] = {Noun: HYPERNYMS, Verb: VERBS, Adjective: ADJECTIVES}
    return [other for other in words[type(word)] if other.meaning[0] != word.meaning[0]]


def redraw_synonym(rng: random.Random, word: Word) -> Word:
    """`word` or its synonym."""
    return replace(word, synonym=rng.randrange(2))
