"""The miniature's three downstream tasks, generated from fixed seeds. All synthetic; none is a GLUE task.

mini_entailment is like RTE, mini_acceptability like CoLA, mini_similarity like STS-B. A task's dev set does not
depend on the size of its training set, a smaller training set is the beginning of a larger one, and no text_a of one
example is another's.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from spd_ray.base.errors import UserError
from spd_ray.data.miniature import language, lexicon
from spd_ray.data.miniature.language import Sentence
from spd_ray.data.miniature.lexicon import Noun, Word

DEV_EXAMPLES = 1_000
MOST_TRAIN_EXAMPLES = 100_000  # some seconds; beyond it distinct sentences become rare
ENTAILMENT_CHANGE = 0.4
ACCEPTABLE = 7  # of every 10 examples
ACCEPTABILITY_ADJECTIVE = 0.7
VIOLATIONS = {"order": 0.4, "adjective": 0.25, "subject": 0.2, "object": 0.15}
SLOT_WEIGHTS = {"subject": 2, "verb": 2, "object": 2, "subject_adjective": 1, "object_adjective": 1}
DEV_SEED, TRAIN_SEED = 2, 1

Label = int | float


class Example(NamedTuple):
    """`text_b` is None for a single-sentence task."""

    text_a: str
    text_b: str | None
    label: Label


Texts = tuple[list[str], list[str] | None, list[Label]]


def entailment(rng: random.Random, index: int) -> Example:
    """Does text_b follow from text_a? 0: it does, 1: it does not (RTE's order). Even indices do.

    text_b begins with `so` or `indeed`, like a restatement in the corpus.
    """
    premise = language.random_sentence(rng)
    hypothesis = language.derive(rng, premise, ENTAILMENT_CHANGE, falsify=index % 2 == 1)
    return Example(text(premise), " ".join(language.spell_with_connective(rng, hypothesis)), index % 2)


def acceptability(rng: random.Random, index: int) -> Example:
    """Is text_a a licensed sentence? 1: it is (70%); 0: one violation of word order, selection or licence."""
    sentence = language.random_sentence(rng, ACCEPTABILITY_ADJECTIVE)
    if index % 10 < ACCEPTABLE:
        return Example(text(sentence), None, 1)
    return Example(
        " ".join(violate(rng, sentence, *rng.choices(tuple(VIOLATIONS), tuple(VIOLATIONS.values())))), None, 0
    )


def similarity(rng: random.Random, index: int) -> Example:
    """How much of text_a's meaning has text_b, from 0 to 5? A share of the slots, drawn evenly, is redrawn."""
    first = language.random_sentence(rng)
    second = blur(rng, first, change=rng.random())
    return Example(text(first), text(second), similarity_score(first, second))


def text(sentence: Sentence) -> str:
    """The sentence in words."""
    return " ".join(language.spell(sentence))


def violate(rng: random.Random, sentence: Sentence, kind: str) -> list[str]:
    """The words of `sentence` with one violation: two neighbours swapped, or one slot's word of a wrong kind.

    A sentence without an adjective has its word order violated where `kind` is "adjective".
    """
    slots = {"subject": ["subject"], "object": ["object"]}.get(kind) or [
        slot for slot in language.SLOTS if slot.endswith("adjective") and kind != "order" and getattr(sentence, slot)
    ]
    if not slots:
        return disorder(rng, language.spell(sentence))
    slot = rng.choice(slots)
    words: tuple[Word, ...] = lexicon.ADJECTIVES if slot.endswith("adjective") else lexicon.NOUNS
    broken = [
        other for other in (language.with_word(sentence, slot, word) for word in words) if breaks_only(other, slot)
    ]
    return language.spell(rng.choice(broken)) if broken else disorder(rng, language.spell(sentence))


def breaks_only(sentence: Sentence, slot: str) -> bool:
    """Whether `slot` is all that is not licensed in `sentence`."""
    return not language.is_licensed(sentence) and [
        language.fits_verb(sentence, "subject"),
        language.fits_verb(sentence, "object"),
        lexicon.takes(sentence.subject, sentence.subject_adjective),
        lexicon.takes(sentence.object, sentence.object_adjective),
    ] == [slot != part for part in ("subject", "object", "subject_adjective", "object_adjective")]


def disorder(rng: random.Random, words: list[str]) -> list[str]:
    """`words` with two neighbours swapped so that the grammar has no such sentence."""
    while True:
        at = rng.randrange(len(words) - 1)
        swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
        if language.parse(swapped) is None:
            return swapped


def blur(rng: random.Random, sentence: Sentence, change: float) -> Sentence:
    """Another licensed telling of `sentence` in which each slot's meaning is changed with probability `change`.

    A changed slot takes a related word or one of a new sentence, half and half; the others keep their meaning.
    """
    while True:
        blurred = sentence._replace(passive=rng.random() < language.PASSIVE)
        fresh = language.random_sentence(rng)
        for slot in language.SLOTS:
            word: Word | None = getattr(blurred, slot)
            if rng.random() < change:
                word = related_word(rng, word) if word is not None and rng.random() < 0.5 else getattr(fresh, slot)
            elif word is not None:
                word = lexicon.redraw_synonym(rng, word)
            blurred = language.with_word(blurred, slot, word)
        if language.is_licensed(blurred):
            return blurred


def related_word(rng: random.Random, word: Word) -> Word:
    """A verb's or an adjective's antonym; a noun's hypernym or a co-hyponym, half and half."""
    if isinstance(word, Noun) and rng.random() < 0.5:
        return Noun(word.category, None, 0)
    return rng.choice(lexicon.near_words(word))


def similarity_score(first: Sentence, second: Sentence) -> float:
    """5 times the weighted mean over the slots that either sentence has of 1 (same), 0.5 (related) or 0 (neither)."""
    weight = agreement = 0.0
    for slot, slot_weight in SLOT_WEIGHTS.items():
        word, other = getattr(first, slot), getattr(second, slot)
        if word is None and other is None:
            continue
        weight += slot_weight
        if lexicon.same_meaning(word, other):
            agreement += slot_weight
        elif word is not None and other is not None and word.meaning[0] == other.meaning[0]:
            agreement += slot_weight / 2
    return round(5 * agreement / weight, 2)


@dataclass(frozen=True)
class _MiniTask:
    make: Callable[[random.Random, int], Example]
    train_examples: int
    seed: int


_TASKS = {
    "mini_entailment": _MiniTask(entailment, 500, 11),
    "mini_acceptability": _MiniTask(acceptability, 2_500, 12),
    "mini_similarity": _MiniTask(similarity, 800, 13),
}
MINI_TASKS = tuple(_TASKS)


def load_mini_task(name: str, train_examples: int | None = None) -> tuple[Texts, Texts]:
    """The training set (`train_examples` of them, else the recipe's number) and the dev set (1,000) of a task.

    Raises UserError for more than `MOST_TRAIN_EXAMPLES`.
    """
    if train_examples is not None and train_examples > MOST_TRAIN_EXAMPLES:
        raise UserError(
            f"task.train_examples: {train_examples} asked for, but {name} generates at most {MOST_TRAIN_EXAMPLES}"
        )
    task = _TASKS[name]
    used: set[str] = set()
    dev = _generate(task, DEV_SEED, DEV_EXAMPLES, used)
    train = _generate(task, TRAIN_SEED, train_examples or task.train_examples, used)
    return _columns(train), _columns(dev)


def _generate(task: _MiniTask, split_seed: int, count: int, used: set[str]) -> list[Example]:
    """`count` examples none of whose text_a is in `used`, which is filled."""
    rng = random.Random(10 * task.seed + split_seed)
    examples: list[Example] = []
    while len(examples) < count:
        example = task.make(rng, len(examples))
        if example.text_a not in used:
            used.add(example.text_a)
            examples.append(example)
    return examples


def _columns(examples: list[Example]) -> Texts:
    second = [example.text_b for example in examples if example.text_b is not None]
    return [example.text_a for example in examples], second or None, [example.label for example in examples]
