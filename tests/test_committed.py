"What may not be committed."

import importlib
import re

from fixtures_project import cfg, committed, lib, package, read, root, words

TEXTS = ('.py', '.toml', '.cfg', '.ini', '.yml', '.yaml', '.in', '.md', '.ipynb')


def files_with(pattern, files=None):
    "Files in whose text a pattern is found, and what was found"
    found = {}
    for path in committed() if files is None else files:
        match = re.search(pattern, words(path))
        if match:
            found[path.relative_to(root).as_posix()] = match[0]
    return found


def test_no_paths_of_one_machine():
    folders = '|'.join(f'/{name}/' for name in ('work', 'root', 'farm'))
    homes = r'(?<![\w.\]}])/(?:home|Users)/'
    packages = '/opt/' + '(?:pypi|wheels)'
    assert not files_with(f'{folders}|{homes}|{packages}')


def test_no_registry_hosts():
    "Package registries are named by pip's own settings, not here"
    hosts = ['pypi\\.' + 'org', 'pythonhosted\\.' + 'org', 'download\\.pytorch\\.' + 'org']
    options = '--(?:extra-)?index-' + 'url'
    assert not files_with('|'.join([*hosts, options]))


def test_version_is_stated_once():
    version = cfg['version']
    assert importlib.import_module(package).__version__ == version
    assert f'## {version}' in read(root / 'CHANGELOG.md')
    allowed = {root / 'settings.ini', lib / '__init__.py', root / 'CHANGELOG.md'}
    others = [path for path in committed() if path not in allowed and path.suffix in TEXTS]
    assert not files_with(rf'(?<![\d.]){re.escape(version)}(?![\d.]*\d)', others)


def test_runtime_requirements_do_not_cap_fastai():
    "The development extra may cap these, a user's environment not"
    for requirement in cfg['requirements'].split():
        if re.match(r'(fastai|fastcore)\b', requirement):
            assert not re.search(r'[<~]|==', requirement)


def test_files_are_of_a_size_to_clone():
    large = [path.name for path in committed() if path.stat().st_size > 1_500_000]
    assert not large
