"""Text alone: books to read on, what words mean, and words in other languages."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from camelid.core.messages import Message, TextPart
from camelid.data.epochs import epoch_order
from camelid.data.example import Conversation, Document, Example
from camelid.data.questions.problem import Problem
from camelid.data.questions.turns import Turn, talk
from camelid.data.questions.wording import LANGUAGES, SAY_IN_LANGUAGE, choose
from camelid.data.sources import cut_at_paragraphs
from camelid.data.starter import Concept, GlossEntry
from camelid.data.starter import Prose as Chapter

__all__ = ["Glosses", "Prose", "Words", "gloss_problems", "prose_windows"]

SHORTEST_CHARS, LONGEST_CHARS = 400, 1600
CONTINUE_SHARE = 0.1
PARAGRAPH = re.compile(r"(?<![^\n])[^\n]")
SENTENCE_END = re.compile(r"[.!?][\"'”’)]*\s")
GLOSS_QUESTIONS = ('What does "{word}" mean?', 'Define "{word}".', 'What is the meaning of "{word}"?')


class Prose:
    """Windows of running text, walking through all paragraphs as beginnings in shuffled epochs."""

    name = "prose"

    def __init__(self, chapters: Sequence[Chapter], seed: int = 0) -> None:
        # Chapter and place of every first letter of a paragraph.
        self._starts = [
            (chapter.text, match.start())
            for chapter in chapters
            for match in PARAGRAPH.finditer(chapter.text)
        ]
        self._seed = seed

    def example(self, index: int, rng: np.random.Generator) -> Example:
        """400 to 1600 characters, or what is left of the chapter; one in ten as "Continue: ..."."""
        text, start = self._starts[epoch_order(len(self._starts), index, self._seed)]
        text = _window(text, start, int(rng.integers(SHORTEST_CHARS, LONGEST_CHARS + 1)))
        border = text.find(" ", len(text) // 2)
        if border < 0 or rng.random() >= CONTINUE_SHARE:
            return Document((TextPart(text),))
        return talk([(f"Continue: {text[:border]}", text[border + 1 :])])


class Glosses:
    """What does this word mean?"""

    name = "glosses"

    def __init__(self, glosses: Sequence[GlossEntry], seed: int = 0) -> None:
        self._glosses = glosses
        self._seed = seed

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """The word at draw `index` and its meaning."""
        gloss = self._glosses[epoch_order(len(self._glosses), index, self._seed)]
        question = choose(GLOSS_QUESTIONS, rng).format(word=gloss.word)
        return talk([(question, gloss.gloss)])


class Words:
    """What is a thing called in another language, without a picture of it?"""

    name = "words"

    def __init__(self, concepts: Sequence[Concept], seed: int = 0) -> None:
        self._concepts = concepts
        self._seed = seed

    def example(self, index: int, rng: np.random.Generator) -> Conversation:
        """One to three languages; now and then back into English."""
        concept = self._concepts[epoch_order(len(self._concepts), index, self._seed)]
        others = [code for code in LANGUAGES if code != "en"]
        turns: list[Turn] = []
        for place in rng.permutation(len(others))[: int(rng.integers(1, 4))]:
            known, wanted = ("en", others[place]) if turns or rng.random() < 0.7 else (others[place], "en")
            word, language = concept.names[known], LANGUAGES[wanted]
            question = choose(SAY_IN_LANGUAGE, rng).format(word=word, language=language)
            turns.append((question, concept.names[wanted]))
        return talk(turns)


def gloss_problems(glosses: Sequence[GlossEntry], count: int, seed: int) -> list[Problem]:
    """Fixed questions for the meaning of a word."""
    chosen = [glosses[int(index)] for index in np.random.default_rng(seed).permutation(len(glosses))[:count]]
    return [
        Problem((Message.of("user", GLOSS_QUESTIONS[0].format(word=entry.word)),), entry.gloss, "gloss")
        for entry in chosen
    ]


def prose_windows(chapters: Sequence[Chapter]) -> list[Document]:
    """All of some chapters once, as documents of at most 1600 characters: what a loss is measured on."""
    pieces = (piece for chapter in chapters for piece in cut_at_paragraphs(chapter.text, LONGEST_CHARS))
    return [Document((TextPart(piece.strip()),)) for piece in pieces]


def _window(text: str, start: int, num_chars: int) -> str:
    """About `num_chars` characters from `start` on, ending after a sentence, or else a word."""
    window = text[start : start + num_chars]
    if len(text) - start <= num_chars:
        return window
    ends = [match.end() for match in SENTENCE_END.finditer(window)]
    return window[: ends[-1]].rstrip() if ends else window.rsplit(maxsplit=1)[0]
