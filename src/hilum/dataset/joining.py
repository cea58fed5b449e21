"""Groups that share a member are one group."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def joined(groups: Iterable[Collection[str]]) -> tuple[tuple[str, ...], ...]:
    """The groups that are left when those that share a member are joined, again and again.

    Args:
        groups: of names; the order does not matter.

    Returns:
        Disjoint groups, each sorted, by their first name; a group of one stays.
    """
    parents: dict[str, str] = {}

    def first_of(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for group in groups:
        roots = sorted({first_of(name) for name in group})
        for root in roots[1:]:
            parents[root] = roots[0]
    members: dict[str, list[str]] = {}
    for name in sorted(parents):
        members.setdefault(first_of(name), []).append(name)
    return tuple(sorted(tuple(group) for group in members.values()))
