"""Files are read and written in UTF-8, whatever the machine's locale is."""

import ast
import subprocess
import sys

import pytest

from tests.commands import environment
from tests.config.test_layers import SOURCES

TEXT = {"open", "read_text", "write_text", "fdopen", "NamedTemporaryFile", "TextIOWrapper"}
BINARY = {"rb", "wb", "ab", "xb", "r+b", "rb+", "w+b", "wb+"}
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def locale_bound(source):
    """The calls of a source that open a file as text in the encoding of the locale, by line."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) == "os.open":
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        modes = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        binary = name in ("open", "fdopen") and any(str(mode) in BINARY for mode in modes)
        if name in TEXT and not binary and not any(k.arg in ("encoding", None) for k in node.keywords):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("file", SOURCES)
def test_no_file_is_opened_in_the_encoding_of_the_locale(file):
    assert list(locale_bound(SOURCES[file].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("call", ["p.read_text()", "p.write_text('b')", "open(p)", "p.open('a')", "os.fdopen(1, 'w')"])
def test_the_search_finds(call):
    assert list(locale_bound(call))


@pytest.mark.parametrize(
    "call", ["p.read_text(encoding='utf-8')", "p.open('rb')", "open(p, mode='wb')", "os.open(p, 0)", "p.read_bytes()"]
)
def test_the_search_spares(call):
    assert not list(locale_bound(call))


def test_a_message_that_the_terminal_cannot_spell_is_said_all_the_same(tmp_path):
    """An ASCII terminal: the character's code stands in its place, and no traceback."""
    command = [sys.executable, "-m", "stp.evaluate", "checkpoint='a\x01b'"]
    done = subprocess.run(command, cwd=tmp_path, env=environment() | ASCII_LOCALE, capture_output=True, timeout=300)
    assert done.returncode == 2
    (line,) = done.stderr.decode("ascii").splitlines()
    assert line.startswith("error: checkpoint=a\\u2401b") and "no such folder" in line
