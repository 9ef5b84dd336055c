"Packaging entry point: everything it says is read from settings.ini, the one place where the project is described."

from configparser import ConfigParser
from pathlib import Path
import shlex

import setuptools

ini = ConfigParser(delimiters=['='])
ini.read('settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
pythons = ['3.10', '3.11', '3.12', '3.13']
statuses = [
    '0',
    'Planning',
    'Pre-Alpha',
    'Alpha',
    'Beta',
    'Production/Stable',
    'Mature',
    'Inactive',
]
licenses = {'apache2': 'Apache-2.0'}

setuptools.setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    license=licenses[cfg['license']],
    description=cfg['description'],
    keywords=cfg['keywords'],
    long_description=Path('README.md').read_text(encoding='utf-8')
    if Path('README.md').exists()
    else cfg['description'],
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    classifiers=[
        f"Development Status :: {cfg['status']} - {statuses[int(cfg['status'])]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        *[
            f'Programming Language :: Python :: {v}'
            for v in pythons[pythons.index(cfg['min_python']) :]
        ],
    ],
    packages=setuptools.find_packages(
        include=['geomrecon', 'geomrecon.*'], exclude=['geomrecon.paper', 'geomrecon.paper.*']
    ),
    include_package_data=True,
    install_requires=shlex.split(cfg['requirements']),
    extras_require={
        'imagenet': shlex.split(cfg['imagenet_requirements']),
        'export': shlex.split(cfg['export_requirements']),
        'formats': shlex.split(cfg['formats_requirements']),
        'logs': shlex.split(cfg['logs_requirements']),
        'dev': shlex.split(cfg['dev_requirements']),
    },
    python_requires=f">={cfg['min_python']}",
    zip_safe=False,
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
