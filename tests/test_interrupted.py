"""Ctrl-C at any moment of any command, with the progress bars that are shown by default: the same command goes on, and
ends as if nothing had happened."""

import os
import random
import signal
import threading
from itertools import cycle
import pytest
import torch
from geomrecon.core.files import save_atomic
from geomrecon.learn.presets import PRESETS, get_preset
from geomrecon.paper import command as paper_command
from geomrecon.paper.__main__ import main as paper_main
from geomrecon.paper.benches import Bench
from geomrecon.paper.settings import spec
from geomrecon.use import cli
from fixtures_hands import write_mvhand, write_rhd
from fixtures_interrupted import assert_same_content, folder_contents, interruptions  # noqa: F401
from fixtures_interrupted import mouse_video, small_runs  # noqa: F401
from fixtures_use import labelled_pictures


def finish(command, interruptions):
    "A run without interruption"
    interruptions.begin()
    assert command() == 0


def interrupt(command, interruptions, moment):
    "A run that is interrupted there; False where Ctrl-C came after the end, or inside what Python lets nobody interrupt"
    interruptions.begin(*moment)
    try:
        status = command()
        interruptions.wait()
    except KeyboardInterrupt:
        return False
    assert status in (0, 130)
    return status == 130


def check(command, interruptions, tmp_path, n, seed):
    "Interrupt a run `n` times on its way to the end, with and without bars, and compare"
    finish(lambda: command(tmp_path / 'whole', True), interruptions)
    moments = interruptions.draw(n, random.Random(seed))
    hits = []
    for moment, bar in zip([*moments, *moments[-2:]], cycle([True, True, False])):
        if len(hits) < n and interrupt(
            lambda: command(tmp_path / 'broken', bar), interruptions, moment
        ):
            hits.append(interruptions.hit)
    finish(lambda: command(tmp_path / 'broken', True), interruptions)
    print('interrupted in', hits)
    whole = folder_contents(tmp_path / 'whole')
    broken = folder_contents(tmp_path / 'broken')
    assert_same_content(whole, broken)
    return hits


def bars(shown):
    "Bars as they come, or none"
    return [] if shown else ['--no-bar']


def test_demo_twenty_times(tmp_path, interruptions):
    def demo(out, bar):
        size = ['--skeleton', 'mouse', '--preset', 'mini', '--control', 'time']
        return cli.main(['demo', '--out', str(out), *size, *bars(bar)])

    hits = check(demo, interruptions, tmp_path, n=20, seed=16)
    assert len(hits) == 20
    assert len({phase for phase, _ in hits}) >= 6
    assert {'model.pth', 'source.ckpt', 'style.ckpt', 'control.ckpt', 'report.html'} <= names(
        tmp_path
    )


def names(tmp_path):
    return {path.name for path in (tmp_path / 'broken').iterdir()}


def test_adapt(tmp_path, interruptions):
    mouse_video(tmp_path / 'mouse.mp4')

    def adapt(out, bar):
        target = ['--skeleton', 'mouse', '--target', str(tmp_path / 'mouse.mp4'), '--crop', 'whole']
        size = ['--preset', 'mini-2d', '--pool', '130', '--control']
        return cli.main(['adapt', '--out', str(out), *target, *size, *bars(bar)])

    hits = check(adapt, interruptions, tmp_path, n=6, seed=1)
    assert len(hits) == 6
    assert {'model.pth', 'predictions.csv', 'labelled.mp4', 'control.ckpt'} <= names(tmp_path)


def test_adapt_with_labels(tmp_path, interruptions):
    mouse_video(tmp_path / 'mouse.mp4')
    labelled_pictures(tmp_path, n=6)

    def adapt(out, bar):
        target = ['--skeleton', 'mouse', '--target', str(tmp_path / 'mouse.mp4'), '--crop', 'whole']
        labels = ['--labels', str(tmp_path / 'labels.csv'), '--pool', '130', '--no-video']
        return cli.main(
            ['adapt', '--out', str(out), *target, *labels, '--preset', 'mini-2d', *bars(bar)]
        )

    hits = check(adapt, interruptions, tmp_path, n=5, seed=4)
    assert len(hits) == 5
    assert {'model.pth', 'predictions.csv', 'split_2', 'all', 'report.html'} <= names(tmp_path)


def test_train(tmp_path, interruptions):
    write_rhd(tmp_path / 'RHD')
    write_mvhand(tmp_path / 'MVHand', n_frames=3)
    target = f'mvhand:{tmp_path}/MVHand?split=all'

    def train(out, bar):
        data = ['--source', f'rhd:{tmp_path}/RHD', '--target', target, '--test', target]
        how = ['--workers', '0', '--no-ladder', '--cache', str(out / 'cache'), *bars(bar)]
        size = ['--preset', 'mini-2d', '--set', 'stride=1,2']
        return cli.main(['train', '--out', str(out), *data, *how, *size])

    hits = check(train, interruptions, tmp_path, n=4, seed=2)
    assert len(hits) == 4


def test_results(tmp_path, interruptions, monkeypatch):
    bench = Bench('mice', 'mouse', n_videos=2, n_frames=16, n_test=16)
    monkeypatch.setattr(paper_command, 'table_specs', lambda *_: todo)
    todo = [spec(bench, method, 0, {}, get_preset('mini-2d')) for method in ('full', 'regda')]

    def results(out, bar):
        where = ['--folder', str(out / 'results'), '--work', str(out / 'work')]
        return paper_main(['results', '--run', *where, '--bar' if bar else '--no-bar'])

    hits = check(results, interruptions, tmp_path, n=4, seed=3)
    assert len(hits) == 4


def test_series(tmp_path, interruptions):
    def series(out, bar):
        size = [
            '--skeleton',
            'mouse',
            '--preset',
            'mini-2d',
            '--control',
            'none',
            '--seeds',
            '0',
            '1',
        ]
        return paper_main(['benchmark', '--out', str(out), *size, '--merge', str(out / 'all.json')])

    hits = check(series, interruptions, tmp_path, n=3, seed=4)
    assert len(hits) == 3


@pytest.mark.parametrize('delay', [0.0, 0.001, 0.004, 0.01, 0.02])
def test_a_checkpoint_that_is_being_written(tmp_path, delay):
    "The old one stays, or the new one is whole; nothing else is left"
    path = tmp_path / 'run.ckpt'
    save_atomic(dict(model=dict(weight=torch.ones(4))), path)
    new = dict(model={f'weight{i}': torch.zeros(50_000) for i in range(40)})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        while True:
            save_atomic(new, path)
    except KeyboardInterrupt:
        pass
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    kept = torch.load(path, weights_only=True)['model']
    assert list(kept) in (['weight'], list(new['model']))
    assert [other.name for other in tmp_path.iterdir()] == ['run.ckpt']
