"How modules are made, and how they depend on each other."

import ast
import importlib
import pkgutil

from fixtures_project import (
    cfg,
    default_exp,
    dotted,
    each_module,
    imported,
    in_order,
    lib,
    module_names,
    modules,
    notebooks,
    package,
    read,
)


def exported_modules(nbs):
    "Modules of notebooks, in the order of these"
    names = [default_exp(nb) for nb in nbs]
    return [f'{package}.{name}' for name in names if name]


def test_modules_are_those_the_notebooks_export():
    assert set(exported_modules(notebooks)) == module_names


@each_module
def test_module_imports(mod):
    imported_module = importlib.import_module(dotted(mod))
    assert imported_module.__doc__


def test_packages_are_importable():
    found = {module.name for module in pkgutil.walk_packages([str(lib)], f'{package}.')}
    assert module_names <= found


@each_module
def test_module_is_written_for_the_oldest_python(mod):
    version = tuple(int(part) for part in cfg['min_python'].split('.'))
    ast.parse(read(mod), feature_version=version)


@each_module
def test_docstrings_are_one_line(mod):
    for node in ast.walk(ast.parse(read(mod))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            assert '\n' not in (ast.get_docstring(node) or ''), node.name


@each_module
def test_imports_point_to_earlier_notebooks_only(mod):
    order = exported_modules(in_order())
    earlier = set(order[: order.index(dotted(mod))])
    assert imported(mod) <= earlier


def test_nothing_imports_the_wing_for_the_paper():
    wing = {name for name in module_names if name.startswith(f'{package}.paper.')}
    for mod in modules:
        if mod.parent.name != 'paper':
            assert not imported(mod) & wing, dotted(mod)
