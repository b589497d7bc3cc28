"""Reads the strings of a source file, docstrings apart."""

import ast
from collections.abc import Iterator

__all__ = ["strings_of"]


def strings_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of each string; what an f-string puts in stands in braces."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(first.value) for first in bodies if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) not in parts | docstrings and (text := _written(node)):
            yield node.lineno, text


def _written(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in node.values
        )
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
