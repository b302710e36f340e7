"""Learns the vocabulary of the small models from the starter pack's training split.

    python scripts/learn_tokenizer.py             writes src/camelid/starter/tokenizer.model
    python scripts/learn_tokenizer.py --check     learns it again and compares

Novels and glosses give the English; names weigh more than their length, because names are what a model
trained on the starter pack says most, and most of them are not English.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from camelid.data.questions import wording
from camelid.data.starter import StarterPack
from camelid.inputs import Tokenizer
from camelid.inputs.tokenizer_training import learn_tokenizer

STARTER_DIR = Path(__file__).resolve().parent.parent / "src" / "camelid" / "starter"
NUM_BASE_TOKENS = 4992  # with 128 special tokens a vocabulary of 5120
NUM_SPECIAL_TOKENS = 128
NAME_WEIGHT = 8
QUESTION_WEIGHT = 40


def main() -> int:
    """Learns, and writes or compares; 0 unless a comparison fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, compare with the file that is there"
    )
    is_check = parser.parse_args().check
    path = STARTER_DIR / "tokenizer.model"
    pack = StarterPack.open(STARTER_DIR)
    tokenizer = Tokenizer(learn_tokenizer(texts(pack), NUM_BASE_TOKENS), NUM_SPECIAL_TOKENS)
    if is_check:
        known = Tokenizer.from_file(path, NUM_SPECIAL_TOKENS)
        is_same = all(known.decode_bytes([i]) == tokenizer.decode_bytes([i]) for i in range(NUM_BASE_TOKENS))
        print(f"{path.name}: {'the same' if is_same else 'DIFFERENT'}")
        return 0 if is_same else 1
    tokenizer.save(path)
    report(tokenizer, pack)
    return 0


def texts(pack: StarterPack) -> Iterator[str]:
    """Everything the vocabulary is learned from, in a fixed order."""
    for chapter in pack.prose("train"):
        yield chapter.text
    for entry in pack.glosses("train"):
        yield f'What does "{entry.word}" mean?'
        yield entry.gloss
    for question in questions():
        yield from [question] * QUESTION_WEIGHT
    say = cycle(wording.SAY_IN_LANGUAGE)
    for name, language in names(pack):
        yield from [name] * NAME_WEIGHT
        if language == "en":  # the language of most questions, in which names stand within sentences
            choice = f"Is this {wording.with_article(name)}? Which of these is it: {name}?"
            yield from [name, choice] * NAME_WEIGHT
        yield next(say).format(word=name, language=wording.LANGUAGES[language])


def questions() -> Iterator[str]:
    """The fixed text of questions and of answers that are not names."""
    for asked in wording.NAME_QUESTIONS.values():
        yield from asked
    for language in wording.LANGUAGES.values():
        yield from (asked.format(language=language) for asked in wording.NAME_IN_LANGUAGE)
    yield from wording.CATEGORY_QUESTIONS
    yield from wording.GROUP_NAMES.values()


def names(pack: StarterPack) -> Iterator[tuple[str, str]]:
    """Each name of each concept that may be trained on, with its language."""
    for concept in pack.concepts:
        if not concept.is_held_out:
            yield from ((name, language) for language, name in concept.names.items())


def report(tokenizer: Tokenizer, pack: StarterPack) -> None:
    """Prints how short the new vocabulary makes text: on held-out prose, and on names."""
    prose = [chapter.text for chapter in pack.prose("held_out")]
    num_bytes = sum(len(text.encode()) for text in prose)
    num_tokens = sum(len(tokenizer.encode(text)) for text in prose)
    print(f"{tokenizer.vocab_size} tokens; held-out prose {num_bytes / num_tokens:.2f} bytes per token")
    for language in wording.LANGUAGES:
        lengths = [len(tokenizer.encode(concept.names[language])) for concept in pack.concepts]
        print(f"names in {wording.LANGUAGES[language]}: {sum(lengths) / len(lengths):.2f} tokens")


if __name__ == "__main__":
    sys.exit(main())
