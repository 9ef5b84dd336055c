#!/usr/bin/env bash
# Builds a wheel, installs it alone into an empty environment (so with the newest fastai and fastcore that it allows), imports every
# module, runs the command and trains one step, all away from the sources.   usage: check_wheel.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-${PYTHON:-python3}}
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/src" && cp -r geomrecon settings.ini setup.py pyproject.toml MANIFEST.in LICENSE README.md "$tmp/src"  # no build/ left here
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$tmp" "$tmp/src"
"$python" -m venv "$tmp/env"
"$tmp/env/bin/python" -m pip install --quiet "$tmp"/geomrecon-*.whl
mkdir "$tmp/away" && cp .ci/import_all.py tests/conftest.py tests/test_one_step.py "$tmp/away" && cd "$tmp/away"
"$tmp/env/bin/python" import_all.py
"$tmp/env/bin/geomrecon" --help
"$tmp/env/bin/python" -m pip install --quiet pytest
OMP_NUM_THREADS=1 "$tmp/env/bin/python" -m pytest test_one_step.py
