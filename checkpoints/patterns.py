"""Patterns of variables' names: matching them, correcting one that fits nothing, and finding those for given names."""

import fnmatch
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from checkpoints.names import OUTPUT, joined

__all__ = ["MOST", "as_patterns", "matching", "offered", "patterns_for"]

# The most patterns that a message offers if it can offer something else.
MOST = 6


def as_patterns(given: str | Sequence[str] | None, argument: str) -> list[str]:
    """Returns the patterns of an argument that takes none, one or several.

    Raises:
      ValueError: if one of them is not a string.
    """
    patterns = [given] if isinstance(given, str) else list(given or ())
    for pattern in patterns:
        if not isinstance(pattern, str):
            name = getattr(getattr(pattern, "op", None), "name", None)
            repair = f"give its name, {argument}={name!r}" if name else "give strings"
            kind = type(pattern).__name__
            raise ValueError(f"{argument} takes patterns of variables' names, and contains a {kind}: {repair}.")
    return patterns


def matching(
    names: Collection[str],
    patterns: Sequence[str],
    *,
    argument: str = "exclude",
    of: str = "the graph",
    scopes: Sequence[str] = (),
) -> set[str]:
    """Returns the names that fit one of the patterns.

    Args:
      names: names to search.
      patterns: patterns with * and ?.
      argument: the argument that gave the patterns, for the error.
      of: the owner of the names, for the error.
      scopes: scopes of the networks among the names, which a pattern may have left out.

    Raises:
      ValueError: for a pattern that fits nothing, with the patterns that were probably meant.
    """
    found: set[str] = set()
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern)
        if not fitting:
            meant = [_meant(names, each, scopes) for each in patterns]
            if all(meant):
                advice = f"give {offered([each for several in meant for each in several], argument)}"
            else:
                advice = "leave it out, or give a pattern of such names"
            example = min(names, default="none")
            raise ValueError(f"{argument}={pattern!r} fits no variable of {of}, such as {example}: {advice}.")
        found.update(fitting)
    return found


def _meant(names: Collection[str], pattern: str, scopes: Sequence[str]) -> list[str]:
    """Returns the patterns probably meant by one: itself if it fits something; none if nothing is near."""
    if fnmatch.filter(names, pattern):
        return [pattern]
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    if len(parts) > 1:
        meant = [_meant(names, part, scopes) for part in parts]
        return [each for several in meant for each in several] if all(meant) else []
    for candidates in _candidates(pattern, scopes):
        if fitting := [candidate for candidate in dict.fromkeys(candidates) if fnmatch.filter(names, candidate)]:
            return fitting
    return []


def _candidates(pattern: str, scopes: Sequence[str]) -> Iterator[list[str]]:
    """Yields patterns that may have been meant, the likeliest first.

    Users give a scope or the start of a name, as slim's own exclude takes them, variable.name for variable.op.name, or
    a scope that the networks do not have.
    """
    plain = pattern.strip().rstrip(",").removesuffix(OUTPUT).strip("/").replace(".*", "*").removesuffix("/*")
    parts = plain.split("/")
    for start in range(len(parts)):
        rest = "/".join(parts[start:])
        if not rest.strip("*?/"):
            return
        prefixes = ["", *scopes] if start == 0 else scopes
        for ending in ("", "/*", "*"):
            if start == 0:
                yield [rest + ending]
            yield [joined(scope, rest) + ending for scope in prefixes]


def offered(patterns: Sequence[str], argument: str = "exclude") -> str:
    """Returns the patterns written as an argument."""
    return f"{argument}={patterns[0]!r}" if len(patterns) == 1 else f"{argument}={list(patterns)!r}"


def patterns_for(names: Iterable[str], among: Collection[str]) -> list[str]:
    """Returns few patterns that fit all these names and no others of ``among``."""
    names = set(names)
    return min((_cover(names, among, order) for order in (_KINDS, _KINDS[::-1])), key=len)


def _cover(names: set[str], among: Collection[str], kinds: Sequence[Callable[[set[str]], list[str]]]) -> list[str]:
    left, found = set(names), []
    for kind in kinds:
        for pattern in kind(left):
            fitting = set(fnmatch.filter(among, pattern))
            if len(fitting & left) > 1 and fitting <= names:
                found.append(pattern)
                left -= fitting
    return [*found, *sorted(left)]


def _scopes_of(names: set[str]) -> list[str]:
    parts = [name.split("/") for name in names]
    scopes = {"/".join(part[:count]) for part in parts for count in range(1, len(part))}
    return [f"{scope}/*" for scope in sorted(scopes, key=lambda scope: (scope.count("/"), scope))]


def _leaves_of(names: set[str]) -> list[str]:
    return [f"*/{leaf}" for leaf in sorted({name.rpartition("/")[2] for name in names})]


_KINDS = (_scopes_of, _leaves_of)
