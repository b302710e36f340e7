"""What questions are called, in the twelve languages of Llama 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = [
    "CATEGORY_QUESTIONS",
    "CLIP_QUESTIONS",
    "GROUP_NAMES",
    "LANGUAGES",
    "NAME_IN_LANGUAGE",
    "NAME_QUESTIONS",
    "SAY_IN_LANGUAGE",
    "ask_which",
    "choose",
    "choose_language",
    "either",
    "with_article",
]

# English names of the languages, by their CLDR codes.
LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "ar": "Arabic",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "id": "Indonesian",
    "it": "Italian",
    "pt": "Portuguese",
    "th": "Thai",
    "tl": "Tagalog",
    "vi": "Vietnamese",
}

NAME_QUESTIONS: Mapping[str, Sequence[str]] = {
    "en": (
        "What is this?",
        "What do you see?",
        "What is in the picture?",
        "What does this picture show?",
        "Name this.",
        "What is this called?",
        "What has been drawn here?",
    ),
    "ar": ("ما هذا؟", "ماذا ترى في الصورة؟"),
    "de": ("Was ist das?", "Was zeigt dieses Bild?"),
    "es": ("¿Qué es esto?", "¿Qué muestra esta imagen?"),
    "fr": ("Qu'est-ce que c'est ?", "Que montre cette image ?"),
    "hi": ("यह क्या है?", "इस चित्र में क्या है?"),
    "id": ("Apa ini?", "Apa yang ada di gambar ini?"),
    "it": ("Che cos'è?", "Che cosa mostra questa immagine?"),
    "pt": ("O que é isto?", "O que mostra esta imagem?"),
    "th": ("นี่คืออะไร", "ในภาพนี้มีอะไร"),
    "tl": ("Ano ito?", "Ano ang nasa larawan?"),
    "vi": ("Đây là gì?", "Trong hình có gì?"),
}
NAME_IN_LANGUAGE = (
    "Name this in {language}.",
    "What is this in {language}?",
    "What is this called in {language}?",
)
SAY_IN_LANGUAGE = (
    'How do you say "{word}" in {language}?',
    'What is "{word}" in {language}?',
    'Translate "{word}" into {language}.',
)
CATEGORY_QUESTIONS = (
    "What kind of thing is this?",
    "Which kind of thing is shown here?",
    "What sort of thing is it?",
)
CLIP_QUESTIONS = ("What is in this clip?", "What do you see in the clip?", "What does the clip show?")

# CLDR's group names, as one would say them.
GROUP_NAMES: Mapping[str, str] = {
    "Smileys & Emotion": "face or emotion",
    "People & Body": "person or body part",
    "Animals & Nature": "animal or plant",
    "Food & Drink": "food or drink",
    "Travel & Places": "place or vehicle",
    "Activities": "activity",
    "Objects": "object",
    "Symbols": "symbol",
    "Flags": "flag",
}


def choose(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of a few wordings."""
    return options[int(rng.integers(len(options)))]


def choose_language(english_share: float, rng: np.random.Generator) -> str:
    """English, or any of the other languages."""
    others = [code for code in LANGUAGES if code != "en"]
    return "en" if rng.random() < english_share else choose(others, rng)


def with_article(name: str) -> str:
    """`a cat`, `an apple`, `a unicorn`; plurals, proper names and flags as they are."""
    if (name.endswith("s") and not name.endswith("ss")) or name[:1].isupper() or ":" in name:
        return name
    is_vowel = name[:1] in "aeiou" and not name.startswith(("uni", "euro", "one"))
    return f"{'an' if is_vowel or name.startswith('hour') else 'a'} {name}"


def ask_which(names: Sequence[str], rng: np.random.Generator) -> str:
    """`Is this a cat or a dog?`, or the names as they are."""
    if rng.random() < 0.5:
        return f"Which of these is it: {', '.join(names)}?"
    return f"Is this {either([with_article(name) for name in names])}?"


def either(options: Sequence[str]) -> str:
    """`a, b or c`."""
    return f"{', '.join(options[:-1])} or {options[-1]}"
