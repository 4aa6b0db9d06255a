import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.domain.conversation import TITLE_LENGTH, clip_spans, title_from
from app.core.domain.errors import AtelierError, Internal, NotFound, describe
from app.core.domain.ids import is_client_id, new_id


def test_ids_rise_with_time():
    ids = [new_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert ids == sorted(ids)
    assert all(is_client_id(i) and i[14] == "7" for i in ids)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "../x", "é", "a" * 65, "a\n", "a.b"])
def test_an_id_of_other_characters_is_refused(text: str):
    assert not is_client_id(text)


@given(st.text())
def test_a_title_is_one_short_line(text: str):
    title = title_from(text)
    if title is None:
        assert not text.split()
    else:
        assert len(title) <= TITLE_LENGTH
        assert title.splitlines() == [title]


def test_a_long_title_ends_between_words():
    assert title_from("word " * 40) == "word " * 14 + "word…"


spans = st.lists(st.integers(1, 60), max_size=8, unique=True).map(sorted)


@given(spans, st.none() | st.integers(0, 70), st.none() | st.integers(0, 70))
def test_clipping_keeps_what_lies_between(edges: list[int], before: int | None, after: int | None):
    pairs: list[tuple[int, int | None]] = list(zip(edges[::2], edges[1::2], strict=False))
    wanted = {n for low, high in pairs for n in range(low, (high or 0) + 1)}
    wanted = {n for n in wanted if (before is None or n < before) and (after is None or n > after)}
    clipped = clip_spans(pairs, before=before, after=after)
    assert {n for low, high in clipped for n in range(low, high + 1)} == wanted
    assert clipped == sorted(clipped)


def test_an_error_that_is_not_ours_gives_nothing_away():
    shown = describe(ValueError("/root/secret sk-123"))
    assert isinstance(shown, Internal)
    assert "secret" not in shown.message
    ours = NotFound("There is no such run.")
    assert describe(ours) is ours


def test_every_error_has_a_code_of_its_own_and_a_docstring():
    kinds = [kind for kind in AtelierError.__subclasses__() if kind.__module__ == AtelierError.__module__]
    codes = [kind.code for kind in kinds if kind.__name__ not in ("Internal", "LeaseLost")]
    assert len(set(codes)) == len(codes)
    assert all(kind.__doc__ for kind in kinds)
