"""The miniature's language, corpus and tasks: the recipe's counts and shares, truth by the grammar, no shortcuts."""

import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from spd_ray.base.errors import UserError
from spd_ray.data.miniature import MINI_TASKS, corpus, language, lexicon, load_mini_task, tasks
from spd_ray.data.miniature.lexicon import Adjective, Noun, Verb
from spd_ray.training import miniature_encoder as recipe

seeds = st.integers(0, 2**32 - 1).map(random.Random)


def some_sentence() -> language.Sentence:
    """`concept 0 of category 0, verb pair 0, an object it takes`, with an adjective that the subject's category has."""
    target = Noun(min(lexicon.OBJECT_CATEGORIES[0] - {0}), 0, 0)
    return language.Sentence(Noun(0, 0, 0), Verb(0, 0, 0), target, subject_adjective=Adjective(0, 0, 0))


def test_lexicon_has_the_recipes_numbers() -> None:
    kinds = Counter(type(word) for word in lexicon.SPELLING)
    assert kinds == {Noun: 6 * (1 + 6 * 2), Verb: 8 * 2 * 2, Adjective: 8 * 2 * 2}
    assert len(set(corpus.VOCABULARY)) == len(corpus.VOCABULARY) == 5 + 4 + 78 + 32 + 32
    assert all(word.isascii() and word.islower() and word.isalpha() for word in lexicon.CONTENT_WORDS)


def test_verbs_take_two_animate_and_two_inanimate_objects() -> None:
    for categories in lexicon.OBJECT_CATEGORIES:
        assert len(categories) == 4
        assert len(categories & set(lexicon.ANIMATE)) == 2
    assert all(lexicon.licensed_categories(verb, "subject") == {0, 1, 2} for verb in lexicon.VERBS)


def test_every_category_takes_adjectives_of_four_dimensions() -> None:
    counts = Counter(category for categories in lexicon.ADJECTIVE_CATEGORIES for category in categories)
    assert counts == dict.fromkeys(lexicon.CATEGORIES, 4)


@given(seeds)
def test_a_sentence_is_licensed_and_parses_to_itself(rng: random.Random) -> None:
    sentence = language.random_sentence(rng)
    words = language.spell(sentence)
    assert language.is_licensed(sentence)
    assert language.parse(words) == sentence
    assert 3 <= len(words) <= 7


def test_entailment_worked_by_hand() -> None:
    premise = some_sentence()
    assert language.entails(premise, premise)
    assert language.entails(premise, premise._replace(passive=True, subject_adjective=None))
    assert language.entails(premise, premise._replace(subject=Noun(0, None, 0), verb=Verb(0, 0, 1)))
    assert not language.entails(premise._replace(subject_adjective=None), premise)  # a new adjective
    assert not language.entails(premise._replace(subject=Noun(0, None, 0)), premise)  # a hypernym names no concept
    assert not language.entails(premise, premise._replace(verb=Verb(0, 1, 0)))
    assert not language.entails(premise, language.swap_roles(premise))


@given(seeds, st.sampled_from([0.35, 0.4, 0.5]), st.booleans())
def test_derive_is_true_or_false_as_asked(rng: random.Random, change: float, falsify: bool) -> None:
    premise = language.random_sentence(rng)
    derived = language.derive(rng, premise, change, falsify)
    assert language.entails(premise, derived) != falsify
    assert language.is_licensed(derived)
    assert derived._replace(passive=premise.passive) != premise


@given(seeds, st.sampled_from(language.SLOTS))
def test_a_false_word_is_false_and_licensed(rng: random.Random, slot: str) -> None:
    premise = language.random_sentence(rng, adjective=1.0)
    falsified = language.with_word(premise, slot, language.false_word(rng, premise, slot))
    assert language.is_licensed(falsified)
    assert not language.entails(premise, falsified)


def test_kinds_of_falsification_have_their_shares() -> None:
    rng = random.Random(0)
    kinds: Counter[str] = Counter()
    swappable = 0
    for _ in range(2000):
        premise = language.random_sentence(rng)
        false = language.derive(rng, premise, 0.4, falsify=True)
        swap = language.entails(premise, language.swap_roles(false))
        swappable += language.is_licensed(language.swap_roles(premise))
        kinds["swap" if swap else falsified_slot(premise, false)] += 1
    assert kinds["swap"] / swappable == pytest.approx(0.25, abs=0.06)
    assert min(kinds[slot] for slot in language.SLOTS) > 100
    assert sum(kinds.values()) == 2000


def falsified_slot(premise: language.Sentence, false: language.Sentence) -> str:
    """The one slot that makes `false` false."""
    wrong = []
    for slot in language.SLOTS:
        mended = language.with_word(false, slot, getattr(premise, slot))
        if getattr(false, slot) is not None and language.entails(premise, mended):
            wrong.append(slot)
    assert len(wrong) == 1
    return wrong[0]


def test_corpus_documents_have_the_recipes_shares() -> None:
    rng = random.Random(1)
    documents = [corpus.random_document(rng) for _ in range(2000)]
    shares = Counter(document.kind for document in documents)
    assert shares["restatement"] / 2000 == pytest.approx(0.70, abs=0.04)
    assert shares["narrative"] / 2000 == pytest.approx(0.15, abs=0.04)
    for document in documents:
        if document.kind == "restatement":
            assert document.second is not None
            assert document.second[0] in lexicon.CONNECTIVES
            restated = language.parse(document.second[1:])
            assert restated is not None
            assert language.entails(document.premise, restated)


def test_hard_negatives_are_false_and_41_percent_of_the_negatives() -> None:
    rng = random.Random(2)
    pairs = [corpus.random_pair(rng, follows=False) for _ in range(2000)]
    hard = [(first, second) for first, second, kind in pairs if kind == "hard"]
    assert len(hard) / 2000 == pytest.approx(0.41, abs=0.04)
    for first, second in hard:
        premise, refuted = language.parse(first), language.parse(second[1:])
        assert premise is not None
        assert refuted is not None
        assert not language.entails(premise, refuted)


@given(seeds)
@settings(max_examples=50)
def test_a_narrative_shares_a_participant(rng: random.Random) -> None:
    premise = language.random_sentence(rng)
    event = corpus.next_event(rng, premise)
    assert language.is_licensed(event)
    categories = {premise.subject.category, premise.object.category}
    assert categories & {event.subject.category, event.object.category}


def test_encode_lays_segments_out_as_bert_does() -> None:
    rows = corpus.encode([(["was", "by"], ["so"]), (["by"], None)], [1, 0])
    names = [[corpus.VOCABULARY[token] for token in row if token] for row in rows.ids]
    assert names == [["[CLS]", "was", "by", "[SEP]", "so", "[SEP]"], ["[CLS]", "by", "[SEP]"]]
    assert rows.types[0].tolist()[:7] == [0, 0, 0, 0, 1, 1, 0]


def test_tokenizer_reads_every_word_as_one_token_and_agrees_with_encode() -> None:
    tokenizer = recipe.tokenizer()
    first, second = ["so", *lexicon.CONTENT_WORDS[:3]], [word.upper() for word in lexicon.CONTENT_WORDS[-3:]]
    encoded = tokenizer(" ".join(first), " ".join(second))
    rows = corpus.encode([(first, [word.lower() for word in second])], [0])
    length = len(encoded["input_ids"])
    assert encoded["input_ids"] == rows.ids[0, :length].tolist()
    assert encoded["token_type_ids"] == rows.types[0, :length].tolist()
    assert not rows.ids[0, length:].any()


@pytest.mark.parametrize(
    ("name", "size"), [("mini_entailment", 500), ("mini_acceptability", 2500), ("mini_similarity", 800)]
)
def test_tasks_have_their_sizes_and_no_text_twice(name: str, size: int) -> None:
    train, dev = load_mini_task(name, None)
    assert [len(column) for column in (train[0], train[2], dev[0], dev[2])] == [size, size, 1000, 1000]
    assert (train[1] is None) == (name == "mini_acceptability")
    assert len({*train[0], *dev[0]}) == size + 1000
    assert max(len(text.split()) for text in train[0] + dev[0]) <= 7


@pytest.mark.parametrize("name", MINI_TASKS)
def test_dev_ignores_the_training_size_and_small_training_sets_are_beginnings(name: str) -> None:
    small, dev = load_mini_task(name, 30)
    large, same_dev = load_mini_task(name, 90)
    assert dev == same_dev
    assert small[0] == large[0][:30]
    assert small[2] == large[2][:30]


def test_entailment_labels_are_balanced_and_true() -> None:
    for text_a, text_b, labels in load_mini_task("mini_entailment"):
        assert sum(labels) == len(labels) / 2
        assert text_b is not None
        for premise, hypothesis, label in zip(text_a, text_b, labels, strict=True):
            parsed = language.parse(premise.split()), language.parse(hypothesis.split()[1:])
            assert parsed[0] is not None
            assert parsed[1] is not None
            assert language.entails(*parsed) == (label == 0)


def test_acceptability_labels_are_70_percent_and_true() -> None:
    for text_a, _, labels in load_mini_task("mini_acceptability"):
        assert sum(labels) / len(labels) == 0.7
        for text, label in zip(text_a, labels, strict=True):
            sentence = language.parse(text.split())
            assert (sentence is not None and language.is_licensed(sentence)) == (label == 1)


@given(seeds, st.sampled_from(["subject", "object"]))
def test_a_selection_violation_breaks_that_slot_alone(rng: random.Random, kind: str) -> None:
    sentence = language.random_sentence(rng, adjective=0.0)
    broken = language.parse(tasks.violate(rng, sentence, kind))
    assert broken is not None
    assert {slot: language.fits_verb(broken, slot) for slot in ("subject", "object")} == {
        slot: slot != kind for slot in ("subject", "object")
    }


def test_similarity_worked_by_hand() -> None:
    sentence = some_sentence()  # weights 2 + 2 + 2 + 1
    assert tasks.similarity_score(sentence, sentence._replace(passive=True, verb=Verb(0, 0, 1))) == 5.0
    assert tasks.similarity_score(sentence, sentence._replace(verb=Verb(0, 1, 0))) == round(5 * 6 / 7, 2)
    assert tasks.similarity_score(sentence, sentence._replace(verb=Verb(1, 0, 0))) == round(5 * 5 / 7, 2)
    assert tasks.similarity_score(sentence, sentence._replace(subject_adjective=None)) == round(5 * 6 / 7, 2)


def test_similarity_spreads_from_0_to_5() -> None:
    _, (_, _, labels) = load_mini_task("mini_similarity")
    scores = np.array(labels)
    assert scores.min() >= 0
    assert scores.max() == 5
    assert (np.histogram(scores, bins=5, range=(0, 5))[0] > 50).all()


def test_the_hypothesis_alone_tells_nothing() -> None:
    train, dev = load_mini_task("mini_entailment", 1500)
    assert train[1] is not None
    assert dev[1] is not None
    words = CountVectorizer(ngram_range=(1, 2)).fit(train[1])
    model = LogisticRegression(C=0.1, max_iter=1000).fit(words.transform(train[1]), train[2])
    assert model.score(words.transform(dev[1]), dev[2]) < 0.58


def test_the_generated_content_is_what_the_cache_was_built_from() -> None:
    """Whoever changes it counts `recipe.VERSION` up (the cache's key cannot see code), then renews these digests."""
    rng = random.Random(3)
    documents = [corpus.random_document(rng) for _ in range(100)]
    pairs = [corpus.random_pair(rng, follows=index % 2 == 0) for index in range(100)]
    contents = {
        "corpus": repr([(document.first, document.second) for document in documents] + pairs),
        "vocabulary": repr(corpus.VOCABULARY),
        **{name: repr(load_mini_task(name)) for name in MINI_TASKS},
    }
    assert {name: hashlib.sha256(content.encode()).hexdigest()[:16] for name, content in contents.items()} == {
        "corpus": "d01ea0e11d0aa069",
        "vocabulary": "0d93f11a1721d8ca",
        "mini_entailment": "4f0c5a3e5a3815a5",
        "mini_acceptability": "c89b6e42d368b22b",
        "mini_similarity": "097f26923124603f",
    }


def test_more_examples_than_a_task_generates_are_refused_at_once():
    with pytest.raises(UserError, match="99999999 asked for, but mini_entailment generates at most 100000"):
        load_mini_task("mini_entailment", 99_999_999)
