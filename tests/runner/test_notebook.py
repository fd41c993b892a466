"""Tests of reading notebooks and their parameters."""

import pytest
from helpers.toy_notebooks import write_notebook

from o3v.runner.notebook import read_notebook, read_parameters


def convert(declaration: str, value):
    (parameter,) = read_parameters(declaration).values()
    return parameter.convert(value)


@pytest.mark.parametrize(
    ("declaration", "value", "message"),
    [
        ("n = 3", "1.5", "must be int, found float 1.5"),
        ("n = 3", 1.0, "must be int, found float"),
        ("n = 3", True, "must be int, found bool"),
        ("n = 3", "many", "must be int, found str 'many'"),
        ("n = 3", None, "must be int, found NoneType"),
        ("rate = 1e-6", "high", "must be float, found str"),
        ("rate = 1e-6", True, "must be float, found bool"),
        ("rate = 1e-6", "nan", "must be float, found str"),
        ("rate = 1e-6", "1e999", "must be a finite number"),
        ("rate = 1e-6", float("nan"), "must be a finite number"),
        ("flag = False", 1, "must be bool, found int"),
        ("flag = False", "yes", "must be bool, found str"),
        ("name = 'a'", 5, "must be str, found int 5"),
        ("name = 'a'", None, "must be str, found NoneType"),
        ("sizes = [1]", 1, "must be list, found int"),
        ("limit: int | None = None", "x", "must be int or NoneType, found str"),
    ],
)
def test_a_value_of_the_wrong_type_raises_an_error(declaration, value, message):
    with pytest.raises(ValueError, match=message):
        convert(declaration, value)


@pytest.mark.parametrize(
    ("declaration", "value", "expected"),
    [
        ("rate = 1e-6", "1e-6", 1e-6),  # text, as from YAML and the command line
        ("rate = 0.5", 2, 2.0),
        ("rate = 0.5", "-2", -2.0),
        ("n = -1", "7", 7),
        ("flag = False", "true", True),
        ("flag = True", False, False),
        ("name = 'a'", "5", "5"),
        ("name: str | None = None", "b", "b"),
        ("name: str | None = None", "none", None),
        ("limit: int | None = None", "5", 5),
        ("limit: int | None = 5", "null", None),
        ("anything = None", "word", "word"),
        ("anything = None", "1e-6", 1e-6),
        ("sizes = [1]", "[2, 3]", [2, 3]),
        ("sizes = (1, 2)", [3, 4], (3, 4)),
        ("table: dict[str, int] = {}", "{'a': 1}", {"a": 1}),
    ],
)
def test_a_value_is_converted_to_the_type_of_its_parameter(declaration, value, expected):
    converted = convert(declaration, value)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize("source", ["n = 1 + k", "n: array = 1", "import os", "a, b = 1, 2", "n: int", "n = len('a')"])
def test_a_parameters_cell_with_anything_but_literals_raises_an_error(source):
    with pytest.raises(ValueError, match="line 1"):
        read_parameters(source)


def test_a_file_that_is_not_a_notebook_raises_an_error(tmp_path):
    path = tmp_path / "01_a.ipynb"
    for text in ("", "[]", "{}", '{"cells": [{}]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"01_a\.ipynb is not a notebook"):
            read_notebook(path)
    path.write_text('{"cells": []}')
    with pytest.raises(ValueError, match="0 cells tagged 'parameters'"):
        read_notebook(path)
    with pytest.raises(ValueError, match="'parameters': line 1: n is not a literal"):
        read_notebook(write_notebook(path, "1", "n = x"))
