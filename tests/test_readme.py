"""Tests the READMEs: their length, their links, and the imports of their examples."""

import ast
import importlib
import re

import pytest

from tests.helpers.processes import ROOT

READMES = [
    "README.md",
    "nets/README.md",
    "checkpoints/README.md",
    "tools/README.md",
    "tools/benchmarks/README.md",
]
PAGES = [*READMES, "CONTRIBUTING.md", "CHANGELOG.md"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def anchors_of(text):
    """Returns the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page, text):
    """Returns the relative links of a page that lead nowhere."""
    broken = []
    for link in _LINK.findall(_BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        anchors = anchors_of(text if not path else target.read_text(encoding="utf-8")) if anchor else {anchor}
        if not target.exists() or anchor not in anchors:
            broken.append(link)
    return broken


def python_examples(text):
    return [code for language, code in _BLOCK.findall(text) if language == "python"]


def test_the_first_page_is_short():
    assert len(text_of("README.md").splitlines()) <= 200


def test_every_readme_is_tested():
    found = [
        file.relative_to(ROOT).as_posix()
        for room in ("nets", "checkpoints", "tools")
        for file in (ROOT / room).rglob("README.md")
    ]
    assert sorted(found) == sorted(READMES[1:])


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    assert broken_links(page, text_of(page)) == []


def test_a_broken_link_is_found():
    text = (
        "# One\n[a](nets/README.md) [b](nets/NONE.md) [c](#one) [d](#two) [e](nets/README.md#none) [f](https://x.org)\n"
    )
    assert broken_links("README.md", text) == ["nets/NONE.md", "#two", "nets/README.md#none"]


@pytest.mark.parametrize("page", READMES)
def test_examples_import_what_there_is(page):
    for code in python_examples(text_of(page)):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page}: from {node.module} import {alias.name}"


def test_first_page_has_the_public_imports():
    modules = {
        node.module
        for code in python_examples(text_of("README.md"))
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom)
    }
    assert {"checkpoints", "nets", "tools.features"} <= modules
