"""Conditions on votes as people write them: "non_face > 0", "unknown >= 5 and happy + sad < 3". Parsed by Python's own parser, never evaluated."""

import ast
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fercore.curation.rules import COLUMNS

NAMES = (*COLUMNS, "total", "top")  # total: all votes of a face; top: the most that one answer has
_LONGEST = 300
_GRID = 200_000  # combinations of counts that are tried to see whether a condition can hold at all
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne}
_SUM: dict[type[ast.operator], Callable[[Any, Any], Any]] = {ast.Add: operator.add, ast.Sub: operator.sub}


class Condition:
    """A condition on the votes of a face.

    Raises:
        ValueError: it cannot be read, names something else, or never or always holds; the message says what to write.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > _LONGEST:
            raise ValueError(f"a condition has at most {_LONGEST} characters")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{text!r} is no condition: write for example non_face > 0, or unknown >= 5 and total > 7") from error
        self.names, self._numbers = set[str](), [0]
        self._check(self._tree, truth=True)
        self._can_hold()

    def holds(self, votes: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.bool_]:
        """Whether it holds, bool [n]; `votes` gives counts [n] for each of NAMES."""
        found: npt.NDArray[np.bool_] = self._value(self._tree, votes)
        return found

    def _check(self, node: ast.expr, truth: bool) -> None:
        match node:
            case ast.BoolOp(values=values) if truth:
                for value in values:
                    self._check(value, True)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if truth:
                self._check(operand, True)
            case ast.Compare(left=left, ops=ops, comparators=others) if truth and all(type(o) in _COMPARE for o in ops):
                for part in (left, *others):
                    self._check(part, False)
            case ast.BinOp(left=left, op=op, right=right) if not truth and type(op) in _SUM:
                self._check(left, False)
                self._check(right, False)
            case ast.Name(id=name) if not truth:
                if name not in NAMES:
                    raise ValueError(f"unknown answer {name!r}: choose from {', '.join(NAMES)}")
                self.names.add(name)
            case ast.Constant(value=int(number)) if not truth and not isinstance(number, bool) and 0 <= number <= 1_000_000:
                self._numbers.append(number)
            case _:
                raise ValueError(f"{ast.unparse(node)!r} cannot stand in {self.text!r}: compare counts with < <= > >= == !=, "
                                 "add with + and -, join with and, or, not")

    def _value(self, node: ast.expr, votes: Mapping[str, Any]) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce([self._value(v, votes) for v in values])
            case ast.UnaryOp(operand=operand):
                return ~self._value(operand, votes)
            case ast.Compare(left=left, ops=ops, comparators=others):
                parts = [self._value(p, votes) for p in (left, *others)]
                return np.logical_and.reduce([_COMPARE[type(o)](a, b) for o, (a, b) in zip(ops, itertools.pairwise(parts), strict=True)])
            case ast.BinOp(left=left, op=op, right=right):
                return _SUM[type(op)](self._value(left, votes), self._value(right, votes))
            case ast.Name(id=name):
                return votes[name]
            case ast.Constant(value=number):
                return np.int64(number)  # type: ignore[arg-type]
        raise AssertionError(node)

    def _can_hold(self) -> None:
        """Counts beyond all numbers together, one apart, cannot tell more than those below."""
        if not self.names:
            raise ValueError(f"{self.text!r} names no answer: choose from {', '.join(NAMES)}")
        most = sum(self._numbers) + len(self.names) + 1
        if (most + 1) ** len(self.names) > _GRID:
            return
        grid = np.meshgrid(*[np.arange(most + 1)] * len(self.names))
        found = self.holds(dict(zip(sorted(self.names), (g.ravel() for g in grid), strict=True)))
        if found.all() or not found.any():
            raise ValueError(f"{self.text!r} {'always' if found.any() else 'never'} holds")
