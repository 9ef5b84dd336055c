"Imports every module of the installed geomrecon and says from where, with which versions; fails at the first that does not import."

import importlib
import pkgutil
import sys
from importlib.metadata import version
import geomrecon

mods = sorted(m.name for m in pkgutil.walk_packages(geomrecon.__path__, 'geomrecon.'))
if len(mods) < 2:
    sys.exit(f'{geomrecon.__file__}: no modules')
for m in mods:
    importlib.import_module(m)
if geomrecon.__version__ != version('geomrecon'):
    sys.exit(f"version {geomrecon.__version__} differs from the installed {version('geomrecon')}")
print(f"{len(mods)} modules import from {geomrecon.__path__[0]}")
print(
    ', '.join(
        f'{p} {version(p)}'
        for p in (
            'geomrecon',
            'torch',
            'torchvision',
            'fastai',
            'fastcore',
            'fasttransform',
            'numpy',
        )
    ),
    f'Python {sys.version.split()[0]}',
)
