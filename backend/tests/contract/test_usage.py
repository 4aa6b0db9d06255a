"""Sums of tokens, in every store."""

from app.core.ports import Store, UsageRow


async def test_figures_are_added_up_by_day_and_model(store: Store):
    await store.usage.add([UsageRow("2026-11-20", "ann", "a@m", "c1", 1, 10, 5)])
    await store.usage.add(
        [
            UsageRow("2026-11-20", "ann", "a@m", "c1", 2, 1, 1),
            UsageRow("2026-11-20", "ann", "a@m", "c2", 1, 100, 50),
            UsageRow("2026-11-20", "ann", "a@m", "", 1, 1_000, 500),
            UsageRow("2026-11-21", "ann", "b@m", "c1", 1, 7, 7),
            UsageRow("2026-11-21", "eve", "a@m", "c3", 1, 9, 9),
        ]
    )
    whole = await store.usage.sums("ann", since="0001-01-01", until="9999-12-31")
    assert list(whole) == [
        UsageRow("2026-11-20", "ann", "a@m", "", 5, 1_111, 556),
        UsageRow("2026-11-21", "ann", "b@m", "", 1, 7, 7),
    ]
    day = await store.usage.sums("ann", since="2026-11-21", until="2026-11-21")
    assert [row.model for row in day] == ["b@m"]
    of_one = await store.usage.sums("ann", since="2026-11-20", until="2026-11-21", conversation_id="c1")
    assert list(of_one) == [
        UsageRow("2026-11-20", "ann", "a@m", "c1", 3, 11, 6),
        UsageRow("2026-11-21", "ann", "b@m", "c1", 1, 7, 7),
    ]
    assert await store.usage.sums("bob", since="0001-01-01", until="9999-12-31") == []
