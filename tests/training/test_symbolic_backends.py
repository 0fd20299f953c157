"""Backends of symbolic regression. PySR itself never runs here: it needs Julia."""

import ast
import builtins
import importlib.util
import pathlib
import re
import sys
import types

import numpy as np
import pytest

from learned_opt_rl.errors import ExpressionError, MissingExtraError
from learned_opt_rl.expressions import from_pysr
from learned_opt_rl.training.symbolic import operon_backend, pysr_backend
from learned_opt_rl.training.symbolic.backends import (
    BINARY,
    UNARY,
    BackendError,
    Row,
    Settings,
    backend,
)

SMALL = Settings(("tanh", "relu"), max_size=12, points=200, evaluations=20_000)


def data(count=400):
    columns = np.random.default_rng(0).standard_normal((count, 2))
    return columns, np.tanh(2 * columns[:, 0]) - columns[:, 1]


def test_operon_finds_a_formula_and_a_seed_determines_the_table():
    given = *data(), np.ones(400), SMALL
    table = operon_backend.fit(*given, ())
    assert table == operon_backend.fit(*given, ("x0", "x1"))
    assert [row.complexity for row in table] == sorted(row.complexity for row in table)
    best = min(table, key=lambda row: row.loss)
    assert best.loss < 1e-12 and best.complexity <= SMALL.max_size
    found = from_pysr(best.expression, ("p", "g")).evaluate(
        dict(zip(("p", "g"), data()[0].T.astype("f4"), strict=True))
    )[0]
    np.testing.assert_allclose(found, data()[1], atol=1e-5)


def test_operon_draws_rows_by_their_weights():
    columns, target = data()
    weights = (np.arange(400) < 200).astype(float)
    target[200:] = 99.0  # no row of them is drawn
    table = operon_backend.fit(columns, target, weights, SMALL, ())
    assert min(row.loss for row in table) < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unary": ("sinh",)}, "unary='sinh' must be one of square, neg"),
        ({"max_size": 0}, "max_size=0 must be a positive"),
        ({"evaluations": 1.5}, "evaluations=1.5"),
    ],
)
def test_impossible_settings(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**options)


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="backend='julia' must be one of operon, pysr"):
        backend("julia")


def without(monkeypatch, name, error):
    """Let the import of a package fail."""
    real = builtins.__import__

    def fails(module, *args, **kwargs):
        if module.partition(".")[0] == name:
            raise error
        return real(module, *args, **kwargs)

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, "__import__", fails)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("operon", "pyoperon", "symbolic"), ("pysr", "pysr", "pysr")],
)
def test_a_missing_extra_is_named(monkeypatch, name, package, extra):
    without(monkeypatch, package, ImportError(f"No module named {package!r}"))
    line = rf"backend='{name}' needs .*pip install 'learned-opt-rl\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=line):
        backend(name).fit(*data(), np.ones(400), SMALL, ())


def test_without_julia_the_message_has_the_way_out(monkeypatch):
    # What juliapkg raises without a network; it is a bare Exception in some versions.
    reason = "could not find Julia 1.10.3 - 1.11"
    without(monkeypatch, "pysr", Exception(reason))
    message = f"cannot start Julia .Exception: {reason}.; .*backend='operon'"
    with pytest.raises(BackendError, match=message):
        backend("pysr").fit(*data(), np.ones(400), SMALL, ())


@pytest.fixture(scope="module")
def source():
    """Folder of the installed package, which is not imported: that fetches Julia."""
    spec = importlib.util.find_spec("pysr")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the source of PySR: pip install pysr")
    yield pathlib.Path(spec.submodule_search_locations[0])
    assert "pysr" not in sys.modules


def parameters(tree, method):
    """Names of the parameters of a method of ``PySRRegressor``."""
    (regressor,) = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "PySRRegressor"
    ]
    (found,) = [
        node
        for node in regressor.body
        if isinstance(node, ast.FunctionDef) and node.name == method
    ]
    return {one.arg for one in (*found.args.args, *found.args.kwonlyargs)}


def test_arguments_are_parameters_of_the_installed_regressor(source):
    tree = ast.parse((source / "sr.py").read_text(encoding="utf-8"))
    given = pysr_backend.arguments(Settings(), ("x0",))
    assert given.keys() <= parameters(tree, "__init__")
    assert {"X", "y", "weights"} <= parameters(tree, "fit")


def test_operators_are_known_to_the_installed_package(source):
    tree = ast.parse((source / "export_sympy.py").read_text(encoding="utf-8"))
    tables = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    names = {
        key.value
        for table in tables
        if isinstance(table, ast.Dict)
        for key in table.keys
        if isinstance(key, ast.Constant)
    }
    assert {*UNARY, *BINARY} - {*"+-*/"} <= names


def test_arguments_follow_the_settings():
    made = Settings(("tanh",), 40, 8, populations=31, iterations=3, seed=7)
    given = pysr_backend.arguments(made, ("x0", "x1"))
    expected = {"unary_operators": ["tanh"], "maxsize": 40, "maxdepth": 8}
    expected |= {"populations": 31, "niterations": 3, "random_state": 7}
    expected |= {"guesses": ["x0", "x1"], "binary_operators": [*BINARY]}
    assert expected.items() <= given.items()
    assert pysr_backend.arguments(made)["guesses"] is None


class Equations:
    """In place of the table of pandas."""

    def __init__(self, rows):
        self.rows = rows

    def to_dict(self, orient):
        assert orient == "records"
        return self.rows


class Regressor:
    """In place of ``PySRRegressor``."""

    made: "list[Regressor]" = []
    error: Exception | None = None
    equations_ = Equations(
        [
            {"complexity": 5, "loss": 0.01, "score": 1.0, "equation": "tanh(x0) - x1"},
            {"complexity": 1, "loss": 0.5, "score": 0.0, "equation": "x1"},
        ]
    )

    def __init__(self, **options):
        self.options = options
        self.made.append(self)

    def fit(self, x, y, *, weights=None):
        self.given = x, y, weights
        if self.error is not None:
            raise self.error


@pytest.fixture
def regressor(monkeypatch):
    """A fresh fake, importable as the real one."""
    fake = type("Fake", (Regressor,), {"made": []})
    module = types.ModuleType("pysr")
    module.PySRRegressor = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pysr", module)
    return fake


def test_a_fit_of_pysr_passes_weights_and_guesses_and_reads_the_table(regressor):
    columns, target = data()
    weights = np.linspace(0, 1, 400)
    known = ("x0 + 1", "tanh(x1)")
    table = backend("pysr").fit(columns, target, weights, SMALL, known)
    (made,) = regressor.made
    assert made.options == pysr_backend.arguments(SMALL, known)
    for found, expected in zip(made.given, (columns, target, weights), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert table == [Row(1, 0.5, "x1"), Row(5, 0.01, "tanh(x0) - x1")]


def test_a_search_of_pysr_that_fails_has_the_way_out(regressor):
    regressor.error = RuntimeError("UndefVarError")
    with pytest.raises(BackendError, match="failed .RuntimeError: UndefVarError.; rep"):
        backend("pysr").fit(*data(), np.ones(400), SMALL, ())


# As PySR 1 and 2 write it, and as versions before 0.11 did.
NEW = """Complexity,Loss,Equation
1,0.5,"x1"
3,0.25,"inv(x0) - 1.0e-5"
6,0.125,"max(square(x0), cube((x1)))"
"""
OLD = """Complexity|MSE|Equation
1|0.5|x1
3|0.25|inv(x0) - 1.0e-5
6|0.125|max(square(x0), cube((x1)))
"""


@pytest.mark.parametrize("text", [NEW, OLD, NEW.replace("\n", "\r\n")])
def test_tables_of_every_version_are_read(tmp_path, text):
    path = tmp_path / "hall_of_fame.csv"
    path.write_bytes(text.encode())
    found = pysr_backend.read_table(path)
    third = "max(square(x0), cube((x1)))"
    assert found == [
        *(Row(1, 0.5, "x1"), Row(3, 0.25, "inv(x0) - 1.0e-5"), Row(6, 0.125, third))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Complexity,Loss\n1,0.5\n", "no column 'equation' among complexity, loss"),
        ("Complexity|Equation\n1|x0\n", "no column 'loss' among complexity, equation"),
        ('Complexity,Loss,Equation\n1,0.5,"x0"\n3,NaN,"x1"\n', "row 2: loss=nan is"),
        ('Complexity,Loss,Equation\n1,Inf,"x0"\n', "row 1: loss=inf is not finite"),
        ('Complexity,Loss,Equation\n1,0.5,""\n', "row 1: equation='' is empty"),
        ("Complexity,Loss,Equation\n1,0.5\n", "row 1: equation=None is empty; remove"),
        ("Complexity|MSE|Equation\nmany|0.5|x0\n", "row 1: invalid literal"),
    ],
)
def test_damaged_tables_name_the_row(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
        pysr_backend.read_table(path)


def test_records_of_a_model_with_a_missing_equation():
    rows = [{"complexity": 1, "loss": 0.5, "equation": float("nan")}]
    with pytest.raises(ValueError, match="the table, row 1: equation=nan is empty"):
        pysr_backend.rows_of(rows)


X0, X1 = np.linspace(-2, 2, 9), np.linspace(0.5, 3, 9)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("inv(x1) + square(x0) - cube(x0)", 1 / X1 + X0**2 - X0**3),
        ("x0 * 1.0e-5 \u2212 ((x1))", X0 * 1e-5 - X1),
        ("neg(x0 ^ 2.0) / (x1 - -1.0f-5)", -(X0**2) / (X1 + 1e-5)),
        ("max(min(x0, 0.1), relu(tanh(abs(x1))))", np.tanh(X1)),
    ],
)
def test_expressions_of_tables_convert(expression, expected):
    found = from_pysr(expression, ("g", "p")).evaluate({"g": X0, "p": X1})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_function_of_a_table_is_refused():
    with pytest.raises(ExpressionError, match="unknown function 'special'"):
        from_pysr("special(x0)", ("g", "p"))


def test_a_recorded_table_is_a_backend(tmp_path):
    path = tmp_path / "hall_of_fame.csv"
    path.write_text('Complexity,Loss,Equation\n3,0.5,"x0 * 2.0"\n1,0.7,"x1"\n')
    recorded = backend(str(path))
    recorded.require()
    rows = recorded.fit(*data(), np.ones(400), SMALL, ())
    assert rows == [Row(1, 0.7, "x1"), Row(3, 0.5, "x0 * 2.0")]
    with pytest.raises(OSError, match="none.csv"):
        backend(str(tmp_path / "none.csv")).require()
