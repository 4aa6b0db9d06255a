"""What a search looks for: words, each of which begins a word of a title or of a message."""

from app.core.domain.errors import InvalidFrame

MIN_LETTERS = 2
MAX_WORDS = 8
_IDEOGRAPHS = "\u2e80"
"""From here on one character can be a word."""


def words_in(text: str | None) -> list[str]:
    """The words of `text` in lower case: runs of letters and digits."""
    return "".join(char if char.isalnum() else " " for char in (text or "").casefold()).split()


def words_to_search(q: str | None) -> list[str]:
    """The words that a search for `q` has to find; none where `q` has none.

    A word of one letter is passed over beside longer ones, and so is one that begins another: it is found with that.

    Raises:
        InvalidFrame: all words have one letter, or there are too many.
    """
    words = list(dict.fromkeys(words_in(q)))
    if not words:
        return []
    specific = [word for word in words if len(word) >= MIN_LETTERS or word >= _IDEOGRAPHS]
    if not specific:
        raise InvalidFrame(f"A search needs at least {MIN_LETTERS} letters. Type more of the word.")
    wanted = [word for word in specific if not any(other != word and other.startswith(word) for other in specific)]
    if len(wanted) > MAX_WORDS:
        raise InvalidFrame(f"A search takes at most {MAX_WORDS} words. Leave some out.")
    return wanted
