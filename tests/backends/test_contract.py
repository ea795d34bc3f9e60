"""Each backend against what `backends.base.Backend` asks of it, installed or not."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest

from keras_nlp_bridge import backends
from keras_nlp_bridge.backends import AVAILABLE, Backend

HERE = Path(__file__).parents[2]
CONTRACT = {
    name: value
    for name, value in vars(Backend).items()
    if inspect.isfunction(value) and not name.startswith("_")
}
ATTRIBUTES = set(Backend.__annotations__)


def own(name):
    """The methods and attributes that a backend's file gives it, by `ast`."""
    tree = ast.parse((Path(backends.__file__).parent / f"{name}.py").read_text())
    (made,) = (
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    methods = {
        node.name: node.args for node in made.body if isinstance(node, ast.FunctionDef)
    }
    values = {
        node.targets[0].id for node in made.body if isinstance(node, ast.Assign)
    } | {node.target.id for node in made.body if isinstance(node, ast.AnnAssign)}
    if name == "tensorflow":
        methods |= own("strategies")[0]
    return methods, values


def parameters(function):
    """Names, kinds and defaults."""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


def written(arguments):
    """The same of a definition that is only read."""
    scope = {}
    arguments = ast.parse(f"lambda {ast.unparse(bare(arguments))}: None", mode="eval")
    return parameters(eval(compile(arguments, "<definition>", "eval"), scope))


def bare(arguments):
    """Arguments without annotations."""
    for node in ast.walk(arguments):
        if isinstance(node, ast.arg):
            node.annotation = None
    return arguments


@pytest.mark.once
@pytest.mark.parametrize("name", AVAILABLE)
def test_a_backend_has_all_that_is_asked_and_nothing_more(name):
    methods, values = own(name)
    assert values == ATTRIBUTES
    assert set(methods) >= Backend.__abstractmethods__
    public = {method for method in methods if not method.startswith("_")}
    assert public <= set(CONTRACT)


@pytest.mark.once
@pytest.mark.parametrize("name", AVAILABLE)
def test_a_backend_is_called_as_the_contract_says(name):
    for method, arguments in own(name)[0].items():
        assert written(arguments) == parameters(CONTRACT[method]), method


@pytest.mark.once
def test_nobody_else_asks_a_backend_for_anything_else():
    """Every `backend.<name>` of the package is in the contract."""
    found = set()
    for path in Path(backends.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner in ("backend", "self.backend", "self._backend") or (
                    owner == "backends.current()"
                ):
                    found.add((node.attr, path.name))
    known = set(CONTRACT) | ATTRIBUTES
    keras = {("standardize_dtype", "arrays.py")}  # of `keras.backend`
    assert {name for name, _ in found} > {"fold", "hvp", "to_host", "JIT"}
    assert {(name, where) for name, where in found if name not in known} == keras


def test_the_one_in_use():
    backend = backends.current()
    assert isinstance(backend, Backend)
    assert backend is backends.current()
    assert isinstance(backend.WIDE, str)
    assert isinstance(backend.JIT, bool)
    assert isinstance(backend.CARRIES, bool)
    assert isinstance(backend.UNEVEN_LAST, bool)
    for name, asked in CONTRACT.items():
        method = getattr(type(backend), name)
        assert parameters(method) == parameters(asked), name
        assert inspect.getdoc(getattr(backend, name)), name


@pytest.mark.once
def test_what_lacks_a_method_cannot_be_made():
    missing = {name: None for name in Backend.__abstractmethods__ - {"hvp"}}
    with pytest.raises(TypeError, match=r"abstract method '?hvp"):
        type("Lame", (Backend,), missing)()


@pytest.mark.once
def test_each_backend_is_an_extra_and_runs_in_ci():
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert set(AVAILABLE) <= set(project["optional-dependencies"])
    runs = (HERE / ".ci" / "run").read_text()
    assert "for backend in " + " ".join(AVAILABLE[1:]) in runs
    assert f"KERAS_BACKEND={AVAILABLE[0]}" in runs
