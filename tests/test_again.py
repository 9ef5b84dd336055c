"""`geomrecon adapt --model`: a trained model goes on to a new video without its source.

The old run is never written to, its weights stay bit for bit where the figures do not agree, labels
given with `--eval` change no weight, and a run that was interrupted ends as one that was not.
"""

import random
import cv2
import numpy as np
import pytest
import torch
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.learner import build_model
from geomrecon.learn.source_free import again_learner, target_dls
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.use import again
from geomrecon.use.cli import main
from geomrecon.use.diagnosis import Decision, decide_without_labels
from geomrecon.use.model_file import load_model, save_model
from geomrecon.use.results_file import read_results
from geomrecon.use.task import run_files
from fixtures_interrupted import assert_same_content, folder_contents, interruptions  # noqa: F401
from fixtures_interrupted import plain_reports, small_runs  # noqa: F401
from fixtures_use import MINI

FLAT = MINI.changed(depth=False, restyle='', name='mini-2d')
SHORT = ['--set', 'steps=3', 'adapt_epochs=2', 'gamma=none', 'keep=0.3', '--no-bar']


@pytest.fixture(scope='module')
def lab(tmp_path_factory, plain_reports):
    "A run with a model, a new video, labels of some of its frames, and inputs that are wrong"
    folder = tmp_path_factory.mktemp('lab')
    mouse = PuppetVideos(MOUSE4, 1, 24, 64, 'real', seed=0, split='test').batch(np.arange(24))
    pictures = mouse['image'].permute(0, 2, 3, 1).numpy()
    write_video(folder / 'new.mp4', pictures, 15)
    write_video(folder / 'short.mp4', pictures[:2], 15)
    (folder / 'text.mp4').write_text('no video')
    names = ['0.png', '1.png', '2.png']
    for name, picture in zip(names, pictures):
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    pixels = to_pixels(mouse['keypoints'][:3], 64).numpy()
    wrong = np.random.default_rng(0).uniform(0, 64, pixels.shape)
    write_dlc_csv(folder / 'right.csv', pixels, None, MOUSE4, index=names)
    write_dlc_csv(folder / 'wrong.csv', wrong, None, MOUSE4, index=names)
    torch.manual_seed(0)
    model = build_model(MOUSE4, FLAT, reconstruct=True)
    for name, value in model.named_buffers():
        # statistics that no initialisation has
        if 'mean' in name:
            value.normal_(std=0.1)
    save_model(folder / 'mine/model.pth', model, MOUSE4, FLAT, crop='whole')
    (folder / 'mine/preset.yaml').write_text('of the old run')
    return folder


def adapt(lab, out, *options, target='new.mp4', model='mine', short=SHORT):
    "Exit status of going on"
    given = ['--model', str(lab / model), '--target', str(lab / target), '--out', str(out)]
    return main(['adapt', *given, *short, *options])


def weights_in(folder):
    return load_model(folder)[0].state_dict()


def assert_same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def as_bytes(folder):
    "Every file of a folder: content and time of change"
    found = {}
    for path in sorted(folder.rglob('*')):
        if path.is_file():
            found[path.relative_to(folder)] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def decided(monkeypatch, is_better):
    "As if the figures said so"
    monkeypatch.setattr(
        again, 'decide_without_labels', lambda *_: Decision(is_better, ['as the test says'])
    )


def test_kept_or_not(lab, tmp_path, monkeypatch, capsys):
    "The old weights bit for bit where the figures do not agree, the new ones where they do"
    before = as_bytes(lab / 'mine')
    old = weights_in(lab / 'mine')
    decided(monkeypatch, False)
    logged = ['--log', 'csv']
    assert adapt(lab, tmp_path / 'old', '--eval', str(lab / 'right.csv'), *logged) == 0
    columns = (tmp_path / 'old/logs/again.csv').read_text(encoding='utf-8').splitlines()[0]
    assert {'pseudo', 'labelled', 'rec'} <= set(columns.split(','))
    assert_same(weights_in(tmp_path / 'old'), old)
    results = read_results(tmp_path / 'old/results.json')
    assert results['kept'] == 'old weights'
    assert results['rows'][0]['frames'] == 3
    page = (tmp_path / 'old/report.html').read_text(encoding='utf-8')
    assert 'The old weights are kept' in page
    assert 'as the test says' in page
    written = {path.name for path in (tmp_path / 'old').iterdir()}
    assert {'predictions.csv', 'predictions.json', 'labelled.mp4', 'before_after.mp4'} <= written
    # the same run with the other answer: nothing is trained again
    decided(monkeypatch, True)
    assert adapt(lab, tmp_path / 'old', '--eval', str(lab / 'right.csv'), '--no-video') == 0
    new = weights_in(tmp_path / 'old')
    assert not torch.equal(new['pose.head.weight'], old['pose.head.weight'])
    # the batch statistics of the old model are those of the new one
    for name, value in old.items():
        if name.startswith('pose.') and ('mean' in name or 'var' in name):
            assert torch.equal(new[name], value), name
    assert read_results(tmp_path / 'old/results.json')['kept'] == 'new weights'
    # another seed has no business in this folder, until a fresh run is asked for
    assert adapt(lab, tmp_path / 'old', '--no-video', '--seed', '1') == 2
    assert "differs in ['seed']" in capsys.readouterr().err
    assert tmp_path / 'old/again.ckpt' in run_files(tmp_path / 'old')
    # the old run is as it was
    assert as_bytes(lab / 'mine') == before


def test_labels_measure_only(lab, tmp_path, monkeypatch):
    "Right and wrong labels: the same weights, and the same figures to decide by"
    decided(monkeypatch, True)
    weights, results = {}, {}
    for name in ('right', 'wrong'):
        given = ['--eval', str(lab / f'{name}.csv')]
        assert adapt(lab, tmp_path / name, '--no-video', *given) == 0
        weights[name] = weights_in(tmp_path / name)
        results[name] = read_results(tmp_path / name / 'results.json')
    assert_same(weights['right'], weights['wrong'])
    assert results['right']['diagnosis'] == results['wrong']['diagnosis']
    errors = [results[name]['rows'][0]['mean_px'] for name in ('right', 'wrong')]
    assert errors[0] != errors[1]


def test_interrupted(lab, tmp_path, interruptions):
    "Ctrl-C on the way; the same command goes on, and ends as if nothing had happened"

    def run(out):
        return adapt(lab, out, '--no-video')

    interruptions.begin()
    assert run(tmp_path / 'whole') == 0
    moments = interruptions.draw(3, random.Random(0))
    n_hit = 0
    for moment in moments:
        interruptions.begin(*moment)
        try:
            status = run(tmp_path / 'broken')
            interruptions.wait()
        except KeyboardInterrupt:
            continue
        assert status in (0, 130)
        n_hit += status == 130
    assert n_hit > 0
    interruptions.begin()
    assert run(tmp_path / 'broken') == 0
    whole, broken = folder_contents(tmp_path / 'whole'), folder_contents(tmp_path / 'broken')
    assert_same_content(whole, broken)
    assert 'again.ckpt' in whole


#: What is wrong -> what the one line has to say
REFUSED = [
    (dict(model='gone'), [], ['gone', 'no such file']),
    (dict(model='text.mp4'), [], ['text.mp4', 'cannot be read']),
    (dict(target='gone.mp4'), [], ['gone.mp4']),
    (dict(target='text.mp4'), [], ['text.mp4']),
    (dict(target='short.mp4'), [], ['short.mp4', '2 frames']),
    (dict(target='short.mp4'), ['--set', 'stride=1,2'], ['short.mp4', 'at least 3']),
    (dict(), ['--crop', 'face'], ['--crop', 'face']),
    (dict(), ['--eval', '{lab}/gone.csv'], ['gone.csv']),
    (dict(), ['--set', 'size=64'], ['size=64', 'the net is that of --model']),
    (dict(), ['--set', 'epochs=3'], ['epochs=3']),
    (dict(), ['--set', 'adapt_lr=nan'], ['adapt_lr', 'nan']),
    (dict(), ['--set', 'features=gone.pth'], ['gone.pth']),
    (dict(), ['--seed', '-1'], ['--seed']),
    (dict(), ['--step', '0'], ['--step']),
    (dict(), ['--skeleton', 'mouse'], ['--skeleton', 'beside --model']),
    (dict(), ['--source', 'narrow'], ['--source', 'beside --model']),
    (dict(), ['--method', 'regda'], ['--method', 'beside --model']),
    (dict(), ['--pool', '9'], ['--pool', 'beside --model']),
    (dict(), ['--control'], ['--control', 'beside --model']),
    (dict(), ['--no-ladder'], ['--ladder', 'beside --model']),
    (dict(), ['--preset', 'tiny'], ['--preset', 'beside --model']),
    (dict(), ['--out', '{lab}/mine'], ['--out', 'never written to']),
    (dict(), ['--out', '{lab}/mine/new'], ['--out', 'never written to']),
    (dict(), ['--cache', '{lab}/mine'], ['--cache', 'never written to']),
    (dict(), ['--out', '{lab}/new.mp4'], ['--out', 'is a file']),
]


@pytest.mark.parametrize('places, options, told', REFUSED)
def test_refused(lab, tmp_path, capsys, places, options, told):
    "One line at second 0, and nothing is written"
    before = as_bytes(lab)
    options = [option.format(lab=lab) for option in options]
    assert adapt(lab, tmp_path / 'new', *options, **places) == 2
    said = capsys.readouterr().err.strip()
    assert said.count('\n') == 0
    for words in told:
        assert words in said
    assert not (tmp_path / 'new').exists()
    assert as_bytes(lab) == before


def test_without_skeleton_and_model(lab, tmp_path, capsys):
    "One of the two is needed, and both are named"
    target = ['--target', str(lab / 'new.mp4'), '--out', str(tmp_path / 'new')]
    assert main(['adapt', *target]) == 2
    said = capsys.readouterr().err
    assert '--skeleton' in said and '--model' in said
    assert not (tmp_path / 'new').exists()


def test_a_net_of_one_domain(lab, tmp_path, monkeypatch):
    "A model that was only trained has one set of statistics, and no W and G: it goes on, too"
    torch.manual_seed(0)
    trained = build_model(MOUSE4, FLAT, split_bn=False)
    save_model(lab / 'trained.pth', trained, MOUSE4, FLAT)
    decided(monkeypatch, True)
    assert adapt(lab, tmp_path / 'run', '--no-video', model='trained.pth') == 0
    new = load_model(tmp_path / 'run')[0]
    assert not new.split_bn
    assert torch.equal(new.pose.encoder.bn1.running_mean, trained.pose.encoder.bn1.running_mean)
    assert not torch.equal(new.pose.head.weight, trained.pose.head.weight)
    # a model file lies anywhere: a folder beside it may be written
    assert not (lab / 'again.ckpt').exists()


def test_seeds_decide(lab):
    "The same seed gives the same weights, another one others"
    frames = PuppetVideos(MOUSE4, 1, 24, FLAT.size, 'real', seed=0).frames()
    model = load_model(lab / 'mine')[0]
    labelled = FLAT.changed(gamma=None, keep=0.3)

    def gone_on(seed):
        torch.manual_seed(seed)
        loading = dict(steps=2, bs=3, aug=FLAT.aug, seed=seed, device='cpu')
        learn = again_learner(target_dls(frames, MOUSE4, **loading), model, labelled)
        with learn.no_bar(), learn.no_logging():
            learn.fit(1)
        return learn.model.state_dict()

    first = gone_on(0)
    assert_same(first, gone_on(0))
    assert not torch.equal(first['pose.head.weight'], gone_on(1)['pose.head.weight'])


STEADY = dict(affine=0.02, jitter=0.01, flip=0.03, bones=0.1, confidence=0.7, spread=0.1)
BETTER = dict(affine=0.015, jitter=0.008, flip=0.02, bones=0.1, confidence=0.7, spread=0.1)


@pytest.mark.parametrize(
    'changes, is_better',
    [
        (dict(), True),
        (dict(affine=0.019), False),
        (dict(jitter=0.0095), False),
        (dict(flip=0.031), False),
        (dict(bones=0.12), False),
        (dict(confidence=0.6), False),
        (dict(spread=0.009), False),
        (dict(spread=0.03), True),
        (dict(coverage=0.0), True),
        (dict(flip=float('nan')), True),
    ],
)
def test_decision(changes, is_better):
    "All figures have to agree; in doubt the start is kept"
    assert decide_without_labels(STEADY, {**BETTER, **changes}).is_better == is_better
    assert not decide_without_labels({**BETTER, **changes}, STEADY).is_better
