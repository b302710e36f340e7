"""What is shown of a stream: whole characters, and nothing of a stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from camelid.infer.stop_text import StopText
from camelid.inputs import Tokenizer
from camelid.testing.tiny import NUM_SPECIAL_TOKENS

BYTES = Tokenizer({bytes([value]): value for value in range(256)}, NUM_SPECIAL_TOKENS)


def shown(text: str, stop: tuple[str, ...]) -> tuple[list[str], bool]:
    """Pieces as byte after byte comes, and whether a stop string ended them."""
    stream, pieces = StopText(BYTES, stop), []
    for token_id in BYTES.encode(text):
        piece, has_stopped = stream.feed(token_id)
        pieces.append(piece)
        if has_stopped:
            return pieces, True
    return [*pieces, stream.flush()], False


@given(st.text("abé🐪", max_size=12), st.lists(st.text("abé🐪", min_size=1, max_size=4), max_size=3))
def test_cut_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    """The first is the one that is complete first; of two that end together, the one that began first."""
    ends = [(text.find(one) + len(one), text.find(one)) for one in stop if one in text]
    expected = text[: min(ends)[1]] if ends else text
    pieces, has_stopped = shown(text, tuple(stop))
    assert "".join(pieces) == expected and has_stopped == bool(ends)


@given(st.text("abé🐪", max_size=12), st.text("abé🐪", min_size=1, max_size=4))
def test_nothing_is_taken_back(text: str, stop: str) -> None:
    """At every moment what was shown is a beginning of the final answer."""
    pieces, _ = shown(text, (stop,))
    final = text.split(stop)[0]
    for count in range(len(pieces)):
        assert final.startswith("".join(pieces[:count]))


def test_bytes_that_are_no_text() -> None:
    stream = StopText(BYTES, ())
    assert stream.feed(0xF0) == ("", False) and stream.flush() == "\ufffd"
