"""Nothing that is read can run: no pickles, no code from elsewhere, no shell; read from the source."""

import ast
import re
from pathlib import Path

import pytest

from tests.config.test_layers import ROOT, SOURCES

RUNNING = {"eval", "exec", "compile", "__import__", "breakpoint"}
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
ALLOWING = {"trust_remote_code", "allow_pickle", "shell"}
READERS = {"load", "loads", "Unpickler", "open"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "commands.getoutput"}
PROCESSES = {"run", "Popen", "call", "check_call", "check_output"}
BY_NAME = {
    ("stp/config/groups.py", "importlib.import_module"),  # the options of a group, which are files of a package of stp's
    ("stp/cli.py", "runpy.run_module"),  # `stp train` is `python -m stp.train`
    # the functions that a user names with task.reward and task.correct: the one place where code from elsewhere runs
    ("stp/tasks/own_code.py", "importlib.import_module"),
    ("stp/tasks/own_code.py", "spec.loader.exec_module"),
}


def dotted(node):
    """`a.b.c` of a chain of attributes; '' of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def constant(node, value):
    """Whether this is written there, as such."""
    return isinstance(node, ast.Constant) and node.value is value


def dangers(source, file="x.py"):
    """What a source calls that could run what it was given, by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in UNPICKLING:
            yield f"from {node.module}"
        if isinstance(node, ast.keyword) and node.arg in ALLOWING and not constant(node.value, False):
            yield f"{node.arg}="
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        first, _, last = name.rpartition(".")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in RUNNING or name.removeprefix("builtins.") in RUNNING or name in SHELLS:
            yield name
        if first.split(".")[0] in UNPICKLING and last in READERS:
            yield name
        if name == "torch.load" and not constant(keywords.get("weights_only"), True):
            yield "torch.load without weights_only=True"
        if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "jsonpickle.decode"):
            yield name
        if first == "subprocess" and last in PROCESSES and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
            yield f"{name} of a string"
        imports = name in ("importlib.import_module", "import_module") or last in ("exec_module", "run_path", "run_module")
        if imports and (file, name) not in BY_NAME:
            yield name


@pytest.mark.parametrize("file", SOURCES)
def test_a_source_runs_nothing_it_was_given(file):
    assert list(dangers(SOURCES[file].read_text(), file)) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "builtins.exec(x)",
        "__import__(x)",
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "dill.loads(x)",
        "torch.load(path)",
        "torch.load(path, weights_only=flag)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, Loader)",
        "subprocess.run('ls ' + x, shell=True)",
        "subprocess.Popen(f'ls {x}')",
        "os.system(x)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=option)",
        "importlib.import_module(name)",
        "spec.loader.exec_module(module)",
        "runpy.run_path(path)",
    ],
)
def test_the_search_finds(source):
    assert len(list(dangers(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile(x)",
        "torch.load(p, weights_only=True)",
        "pickle.UnpicklingError",
        "subprocess.run(['git', x])",
    ],
)
def test_the_search_spares(source):
    assert list(dangers(source)) == []


def test_only_a_process_of_its_own_runs_the_users_functions():
    """It is started as a script: no file of the package calls what is in it."""
    using = {name: re.findall(r"own_code\.(\w+)", path.read_text()) for name, path in SOURCES.items()}
    assert {name: parts for name, parts in using.items() if parts} == {"stp/tasks/custom.py": ["py", "__file__"]}


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda path: path.name)
def test_scripts_give_no_text_to_a_shell(script):
    lines = [line.split("#")[0] for line in Path(script).read_text().splitlines()]
    assert not [line for line in lines if re.search(r"\beval\b|\b(?:ba|da|z)?sh\s+-c\b|\bsource\b.*\$|`", line)]
