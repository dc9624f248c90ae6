"""Small changes of source code that a test should notice."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "langchain_nscale"
PARTS = (
    "_replies/*",
    "_requests/*",
    "_http/*",
    "errors",
    "_failures",
    "_error_bodies",
    "_usage/ledger",
)
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """One change of one statement."""

    file: str
    function: str
    """Its qualified name, or "" at the level of a module or class."""
    original: str
    mutated: str
    lines: tuple[int, ...]
    """The lines of the statement; of a compound one those of its head."""
    source: bytes
    """The whole module with the change."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it apart, however the lines around it move."""
        return self.file, self.function, self.original, self.mutated

    def rank(self, seed: int) -> str:
        """Its position in a sample, which changes elsewhere in the code leave alone."""
        return hashlib.sha256(repr((seed, self.key)).encode()).hexdigest()


def all_mutants(root: Path) -> Iterator[Mutant]:
    """Yield every mutant of the parts, each once."""
    seen = set()
    for part in PARTS:
        for path in sorted((root / PACKAGE).glob(f"{part}.py")):
            for mutant in _Mutants(path, root).found:
                if mutant.key not in seen:
                    seen.add(mutant.key)
                    yield mutant


class _Mutants(ast.NodeVisitor):
    """The mutants of a module."""

    def __init__(self, path: Path, root: Path) -> None:
        self.found: list[Mutant] = []
        self._file = path.relative_to(root).as_posix()
        self._source = path.read_bytes()
        self._starts = [0]
        for line in self._source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._names: list[str] = []
        self._functions = 0
        self._head = (0, 0)
        self.visit(ast.parse(self._source))

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt | ast.match_case):
            outer, self._head = self._head, self._head_of(node)
            self._statement(node)
            super().visit(node)
            self._head = outer
        # Positions inside an f-string are wrong before Python 3.12.
        elif not isinstance(node, ast.JoinedStr):
            if isinstance(node, ast.expr):
                for change in _changes(node):
                    self._add(node, f"({ast.unparse(change)})")
            super().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default:
                self.visit(default)
        self._names.append(node.name)
        self._functions += 1
        for statement in node.body:
            self.visit(statement)
        self._functions -= 1
        self._names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  # ast's name

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def _statement(self, node: ast.AST) -> None:
        if isinstance(node, ast.Return):
            # None is false, too.
            if node.value and ast.unparse(node.value) not in {"None", "False"}:
                self._add(node, "return None")
        elif self._functions and _can_be_dropped(node):
            self._add(node, "pass")

    def _head_of(self, node: ast.stmt | ast.match_case) -> tuple[int, int]:
        """Return where a statement starts and, but for its body, ends."""
        if not hasattr(node, "body") and not hasattr(node, "cases"):
            return self._span(node)
        inside = (ast.stmt, ast.match_case, ast.excepthandler)
        head = [
            part for part in ast.iter_child_nodes(node) if not isinstance(part, inside)
        ]
        spans = [
            self._span(part)
            for child in head
            for part in ast.walk(child)
            if hasattr(part, "end_lineno")
        ]
        start = self._span(node)[0] if isinstance(node, ast.stmt) else min(spans)[0]
        return start, max((end for _, end in spans), default=start)

    def _span(self, node: Any) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _add(self, node: ast.AST, text: str) -> None:
        start, end = self._span(node)
        head, tail = self._head
        new = text.encode()
        source = self._source
        first = source.count(b"\n", 0, head) + 1
        self.found.append(
            Mutant(
                file=self._file,
                function=".".join(self._names) if self._functions else "",
                original=_plain(source[head:tail]),
                mutated=_plain(source[head:start] + new + source[end:tail]),
                lines=tuple(
                    range(first, first + source[head:tail].strip().count(b"\n") + 1)
                ),
                source=source[:start] + new + source[end:],
            )
        )


def _plain(code: bytes) -> str:
    return " ".join(code.decode().split())


def _can_be_dropped(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):  # a name without a value fails anyway
        return not isinstance(node.targets[0], ast.Name | ast.Tuple)
    if isinstance(node, ast.Raise):
        return "AssertionError" not in ast.unparse(node)
    return isinstance(node, ast.AugAssign | ast.Continue | ast.Break | ast.Delete)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    """Yield other expressions in place of one."""
    match node:
        case ast.Compare(left, ops, comparators):
            for index, operator in enumerate(ops):
                changed = [*ops[:index], COMPARISONS[type(operator)](), *ops[index + 1 :]]
                yield ast.Compare(left, changed, comparators)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                kept = values[:index] + values[index + 1 :]
                yield ast.BoolOp(op, kept) if kept[1:] else kept[0]
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
