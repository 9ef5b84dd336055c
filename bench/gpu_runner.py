"""Runs sections one after the other, each within its time and in its own try, and keeps what they found: for `gpu.py`."""

import contextlib
import gc
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch

from geomrecon.core.errors import ConfigError
from geomrecon.core.files import write_atomic

#: A section is not begun with less time than this, seconds
LEAST = 5.0
#: What has to be the same for a file to be gone on with
SAME = ('device', 'is_gpu', 'quick', 'torch', 'cuda', 'geomrecon')


class OutOfTime(Exception):
    "A section took longer than it may"


@dataclass(frozen=True)
class Section:
    "One thing to measure"

    name: str
    measure: Callable  # () -> what was found, as plain containers
    seconds: float  # Longest time of a run of ten minutes


@contextlib.contextmanager
def at_most(seconds):
    "Raise `OutOfTime` in the block after so many seconds; where a system has no alarm, the block ends when it ends"
    if not hasattr(signal, 'setitimer'):
        yield
        return

    def ring(number, frame):
        raise OutOfTime(f'not done after {seconds:.0f} s')

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def free_memory():
    "Give back what a section, above all one that failed, has left behind"
    gc.collect()
    if 'torch._dynamo' in sys.modules:
        # a compiler was at work; asking it to forget would else be what loads it
        torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def said(error):
    "An error in one line"
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'[:300]


def measured(section, seconds):
    "What came of a section: `status`, and `found` or `error`"
    started = time.perf_counter()
    try:
        with at_most(seconds):
            came = dict(status='done', found=section.measure())
    except OutOfTime as error:
        came = dict(status='out of time', error=said(error))
    except Exception as error:
        came = dict(status='failed', error=said(error))
    free_memory()
    return dict(came, seconds=round(time.perf_counter() - started, 1))


def begun(path, about):
    "What a file holds of an earlier run on the same device; raises `ConfigError` for one of another"
    path = Path(path)
    if not path.exists():
        return dict(about, sections={})
    earlier = json.loads(path.read_text(encoding='utf-8'))
    for name in SAME:
        if earlier.get(name) != about[name]:
            found = f'is of {name} {earlier.get(name)!r}, this is {about[name]!r}'
            raise ConfigError(path, found, '--again to measure everything anew, or another --out')
    return dict(about, sections=earlier['sections'])


def run_sections(sections, report, path, minutes):
    "Measure what is not done, in so many minutes; the file is written after every section"
    end = time.perf_counter() + 60 * minutes
    longer = max(1.0, minutes / 10)
    for section in sections:
        there = report['sections'].get(section.name, {})
        if there.get('status') == 'done':
            print(f'{section.name}: done before')
            continue
        left = end - time.perf_counter()
        if left < LEAST:
            came = dict(status='not begun', error='no time left: the same command goes on here')
        else:
            print(f'{section.name} ...', flush=True)
            came = measured(section, min(longer * section.seconds, left))
        report['sections'][section.name] = came
        write_atomic(path, json.dumps(report, indent=1) + '\n')
        print(f'{section.name}: {came["status"]} {came.get("error", "")}', flush=True)
    return report
