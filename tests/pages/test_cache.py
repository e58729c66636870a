"""Cached readers: each has a cache of its own, emptied by what it depends on only."""

from fercore.domain import Person, Role
from fercore.store import Store
from fercore.store import people as people_table


def test_a_reader_does_not_empty_the_cache_of_another_and_follows_its_subject(app_store: Store) -> None:
    from dashboard.cache import reader

    calls: list[str] = []

    @reader("people", entries=3)
    def first(store: Store) -> int:
        calls.append("first")
        return len(calls)

    @reader("labels", entries=7)
    def second(store: Store) -> int:
        calls.append("second")
        return len(calls)

    for _ in range(3):
        first()
        second()
    assert calls == ["first", "second"]
    people_table.add(app_store, Person("zoe", "Zoe", Role.ANNOTATOR))
    first()
    second()
    assert calls == ["first", "second", "first"]
