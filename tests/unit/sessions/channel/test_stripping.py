"""Code that travels without docstrings and comments is the same code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import claude_mcp
from claude_mcp.sessions.channel.stripping import strip

PACKAGE = Path(claude_mcp.__file__).parent
TRAVELLING = ("agent", "claude", "contract", "placing", "proxy")
MODULES = sorted(
    str(file.relative_to(PACKAGE)) for room in TRAVELLING for file in (PACKAGE / room).rglob("*.py")
)


class Undocumented(ast.NodeTransformer):
    """Empties every string that is a statement of its own."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        match node.value:
            case ast.Constant(value=str()):
                node.value.value = ""
        return node


def undocumented(source: str) -> ast.AST:
    tree: ast.AST = Undocumented().visit(ast.parse(source))
    return tree


def lines(tree: ast.AST) -> list[int | None]:
    return [getattr(node, "lineno", None) for node in ast.walk(tree)]


@pytest.mark.parametrize("module", MODULES)
def test_a_stripped_module_is_the_same_code_on_the_same_lines(module: str) -> None:
    source = (PACKAGE / module).read_text()
    before, after = undocumented(source), undocumented(strip(source))
    assert ast.dump(after) == ast.dump(before)
    assert lines(after) == lines(before)


@pytest.mark.parametrize("module", MODULES)
def test_a_stripped_module_has_no_documentation(module: str) -> None:
    stripped = strip((PACKAGE / module).read_text())
    told = [
        node.value.value
        for node in ast.walk(ast.parse(stripped))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    assert set(told) <= {""}
    assert [line for line in stripped.splitlines() if line.lstrip().startswith("#")] == []


@pytest.mark.parametrize("module", MODULES)
def test_no_travelling_module_reads_its_documentation(module: str) -> None:
    assert "__doc__" not in (PACKAGE / module).read_text()


@pytest.mark.parametrize(
    ("source", "stripped"),
    [
        ("x = 1  # one\n", "x = 1\n"),
        ("    # one\nx = 1", "\nx = 1"),
        ('"""One.\n\nTwo.\n"""\nx = 1\n', '""\n\n\n\nx = 1\n'),
        ('def f():\n    """One."""\n', 'def f():\n ""\n'),
        ('def f():\n    """A \\""" and a #."""', 'def f():\n ""'),
        ("if x:\n    if y:\n        f(a,\n          b)\n", "if x:\n if y:\n  f(a,\n   b)\n"),
        ('if x:\n    y = """\n    z"""\n', 'if x:\n y = """\n    z"""\n'),
        ("x = 1\n'''One.'''\n", "x = 1\n'''One.'''\n"),
    ],
)
def test_comments_and_docstrings_are_removed(source: str, stripped: str) -> None:
    assert strip(source) == stripped


@pytest.mark.parametrize(
    "source",
    [
        "x = '# no'\n",
        'x = "\\"# no"\n',
        "x = r'\\'  'a'\n",
        'x = f"{y}# no"\n',
        'x = """\n# no\n"""\n',
        "x = '''\n\"\"\" # no\n'''\n",
        'f(\n"""no"""\n)\n',
        'x = [\n"""no"""\n"or"\n]\n',
        'x = \\\n"""no"""\n',
        '"""no""".strip()\n',
        'x = {"(": 1}\nf(\n"""no"""\n)\n',
        "",
    ],
)
def test_other_strings_are_kept(source: str) -> None:
    assert strip(source) == source
