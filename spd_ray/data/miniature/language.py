"""The miniature's sentences and what follows from what. All of it is generated.

A sentence tells one event: `NP V NP`, or in the passive `NP was V by NP`, where an NP is a noun with at most one
adjective before it.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from spd_ray.data.miniature.lexicon import (
    ADJECTIVES,
    CONCEPTS_PER_CATEGORY,
    CONNECTIVES,
    MEANING,
    SPELLING,
    VERBS,
    Adjective,
    Noun,
    Verb,
    Word,
    entailed_word,
    far_words,
    licensed_categories,
    near_words,
    same_meaning,
    takes,
)

PASSIVE = 0.2  # probability of the passive
ADJECTIVE = 0.55  # probability that a noun has an adjective
DROP = 0.15  # probability that `derive` drops an adjective
ROLE_SWAP = 0.25  # probability that a falsification is a role swap, where both nouns fit both roles


class Sentence(NamedTuple):
    """One event and how it is told. `subject` is who acts, also in the passive."""

    subject: Noun
    verb: Verb
    object: Noun
    subject_adjective: Adjective | None = None
    object_adjective: Adjective | None = None
    passive: bool = False


SLOTS = ("subject", "verb", "object", "subject_adjective", "object_adjective")
NOUN_SLOTS = ("subject", "object")


def with_word(sentence: Sentence, slot: str, word: Word | None) -> Sentence:
    """`sentence` with `word` in `slot`, one of `SLOTS`."""
    fields: dict[str, Any] = {slot: word}
    return sentence._replace(**fields)


def fits_verb(sentence: Sentence, slot: str) -> bool:
    """Whether the verb takes the noun in `slot`, "subject" or "object"."""
    return getattr(sentence, slot).category in licensed_categories(sentence.verb, slot)


def is_licensed(sentence: Sentence) -> bool:
    """Whether the verb's selection and the adjectives' licences all hold."""
    return (
        fits_verb(sentence, "subject")
        and fits_verb(sentence, "object")
        and takes(sentence.subject, sentence.subject_adjective)
        and takes(sentence.object, sentence.object_adjective)
    )


def entails(premise: Sentence, hypothesis: Sentence) -> bool:
    """Whether `hypothesis` says no more than `premise`: each noun the same or its hypernym, no new adjective."""

    def noun_follows(slot: str) -> bool:
        said, asked = getattr(premise, slot), getattr(hypothesis, slot)
        adjective = getattr(hypothesis, f"{slot}_adjective")
        return (said.category == asked.category and asked.concept in (None, said.concept)) and (
            adjective is None or same_meaning(getattr(premise, f"{slot}_adjective"), adjective)
        )

    return same_meaning(premise.verb, hypothesis.verb) and noun_follows("subject") and noun_follows("object")


def spell(sentence: Sentence) -> list[str]:
    """The words of a sentence, 3 to 7 of them."""

    def noun_phrase(noun: Noun, adjective: Adjective | None) -> list[str]:
        return [SPELLING[word] for word in (adjective, noun) if word is not None]

    subject = noun_phrase(sentence.subject, sentence.subject_adjective)
    target = noun_phrase(sentence.object, sentence.object_adjective)
    verb = SPELLING[sentence.verb]
    return [*target, "was", verb, "by", *subject] if sentence.passive else [*subject, verb, *target]


def spell_with_connective(rng: random.Random, sentence: Sentence) -> list[str]:
    """`so` or `indeed`, then the words of the sentence."""
    return [rng.choice(CONNECTIVES), *spell(sentence)]


def parse(words: Sequence[str]) -> Sentence | None:
    """The sentence that `words` spell, licensed or not; None if the word order is not the grammar's."""
    shape, found = "", []
    for spelling in words:
        word = MEANING.get(spelling)
        shape += {Noun: "n", Verb: "v", Adjective: "a"}[type(word)] if word else f"<{spelling}>"
        found.append(word)
    for passive, pattern in ((False, "{0}v{1}"), (True, "{0}<was>v<by>{1}")):
        for first in ("n", "an"):
            for second in ("n", "an"):
                if shape == pattern.format(first, second):
                    return _assemble([word for word in found if word], len(first), passive)
    return None


def _assemble(content: list[Word], first_length: int, passive: bool) -> Sentence:
    first, second = content[:first_length], content[first_length + 1 :]
    phrases = [(phrase[-1], phrase[0] if len(phrase) == 2 else None) for phrase in (first, second)]
    (subject, subject_adjective), (target, target_adjective) = reversed(phrases) if passive else phrases
    verb = content[first_length]
    return Sentence(subject, verb, target, subject_adjective, target_adjective, passive)  # type: ignore[arg-type]


def random_sentence(rng: random.Random, adjective: float = ADJECTIVE) -> Sentence:
    """A licensed sentence about two different concepts; `adjective` is the probability of one before a noun."""
    verb = rng.choice(VERBS)
    subject = _concept_noun(rng, licensed_categories(verb, "subject"))
    target = _concept_noun(rng, licensed_categories(verb, "object"))
    if same_meaning(subject, target):
        return random_sentence(rng, adjective)
    return Sentence(
        subject,
        verb,
        target,
        random_adjective(rng, subject) if rng.random() < adjective else None,
        random_adjective(rng, target) if rng.random() < adjective else None,
        rng.random() < PASSIVE,
    )


def _concept_noun(rng: random.Random, categories: frozenset[int]) -> Noun:
    return Noun(rng.choice(sorted(categories)), rng.randrange(CONCEPTS_PER_CATEGORY), rng.randrange(2))


def random_adjective(rng: random.Random, noun: Noun) -> Adjective:
    """An adjective that is licensed for `noun`."""
    return rng.choice([adjective for adjective in ADJECTIVES if takes(noun, adjective)])


def derive(rng: random.Random, premise: Sentence, change: float, falsify: bool = False) -> Sentence:
    """A sentence that follows from `premise`, or with `falsify` one that does not, by exactly one change of meaning.

    Each adjective is dropped (0.15); each remaining slot is changed with probability `change`, at least one of them:
    a verb or an adjective to its synonym, a noun to its synonym or its hypernym. With `falsify` the roles are swapped
    (0.25, where both nouns fit both roles) or one of the changed slots is made false instead.
    """
    while True:
        kept = premise._replace(
            subject_adjective=None if rng.random() < DROP else premise.subject_adjective,
            object_adjective=None if rng.random() < DROP else premise.object_adjective,
            passive=rng.random() < PASSIVE,
        )
        slots = [slot for slot in SLOTS if getattr(kept, slot) is not None]
        changed = [slot for slot in slots if rng.random() < change] or [rng.choice(slots)]
        derived = _derive_once(rng, kept, changed, falsify)
        if entails(premise, derived) != falsify:
            return derived


def _derive_once(rng: random.Random, kept: Sentence, changed: list[str], falsify: bool) -> Sentence:
    swap = falsify and is_licensed(swap_roles(kept)) and rng.random() < ROLE_SWAP
    false_slot = rng.choice(changed) if falsify and not swap else None
    derived = kept
    for slot in changed:
        word = getattr(derived, slot)
        derived = with_word(derived, slot, word if slot == false_slot else entailed_word(rng, word))
    if false_slot is not None:
        derived = with_word(derived, false_slot, false_word(rng, derived, false_slot))
    return swap_roles(derived) if swap else derived


def swap_roles(sentence: Sentence) -> Sentence:
    """Who acts and who is acted on, with their adjectives, exchanged."""
    return sentence._replace(
        subject=sentence.object,
        object=sentence.subject,
        subject_adjective=sentence.object_adjective,
        object_adjective=sentence.subject_adjective,
    )


def false_word(rng: random.Random, sentence: Sentence, slot: str) -> Word:
    """A word of another meaning that keeps the sentence licensed.

    A verb's antonym or another verb, a noun's co-hyponym or another hypernym, an adjective's antonym or another
    dimension, half and half; the first of each two where no word of the second kind is licensed.
    """
    word = getattr(sentence, slot)
    near, far = near_words(word), far_words(word)

    def fitting(candidates: Sequence[Word]) -> list[Word]:
        return [other for other in candidates if _fits(with_word(sentence, slot, other))]

    return rng.choice((rng.random() < 0.5 and fitting(far)) or fitting(near))


def _fits(sentence: Sentence) -> bool:
    same_concept = sentence.subject.concept is not None and same_meaning(sentence.subject, sentence.object)
    return is_licensed(sentence) and not same_concept
