"What fastai offers on both learners: every row of the table, and that nothing is moved by trying, looking or failing."

import csv
import pickle
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from execnb.nbio import read_nb
from fastai.callback.core import Callback
from fastai.callback.progress import CSVLogger
from fastai.callback.tracker import EarlyStoppingCallback, SaveModelCallback
from fastai.callback.training import GradientAccumulation
from fastai.learner import load_learner
from fixtures_fastai import (
    CALLS,
    LEARNERS,
    PRESET,
    REFUSED,
    adaptation,
    loaders,
    pretraining,
    some_images,
    without_tensorboard,
)
from fixtures_project import root
from fixtures_learn import KillAt, Killed, fit_quietly
from fixtures_methods import mouse_style
from fixtures_use import mouse_videos
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.checkpoint import Checkpoint
from geomrecon.learn.fits import RESULTS
from geomrecon.learn.learner import adapt_learner, build_pose, pose_learner
from geomrecon.learn.pseudo_label import LabelQuality
from geomrecon.learn.speed import Accumulate, CPUMixedPrecision, n_autocasts
from geomrecon.losses.align import jitter
from geomrecon.methods.catalogue import METHODS
from geomrecon.methods.oracle import oracle_learner
from geomrecon.methods.temporal import TemporalConsistency
from geomrecon.use.model_file import load_model
from geomrecon.use.predict import predict_media

EVERY_LEARNER = pytest.mark.parametrize('learner', LEARNERS)


# The table


def test_the_page_has_every_call_of_the_table():
    "The page makes each call on each learner and compares what comes of it; here, that none is left out"
    page = read_nb(root / 'nbs/learn/11_fastai.ipynb')
    code = '\n'.join(cell.source for cell in page.cells if cell.cell_type == 'code')
    assert 'rows[call] = [tried(call, learner) for learner in LEARNERS]' in code
    assert "assert result == 'works' if expected is None else expected in result" in code
    outputs = [output for cell in page.cells for output in cell.get('outputs', [])]
    [table] = [o.data['text/markdown'] for o in outputs if 'text/markdown' in o.get('data', {})]
    rows = {}
    for line in ''.join(table).splitlines()[2:]:
        _, call, *results, _ = line.split('|')
        rows[call.strip().strip('`')] = [result.strip() for result in results]
    assert list(rows) == list(CALLS)
    for call, results in rows.items():
        for learner, result in zip(LEARNERS, results):
            assert REFUSED.get((call, learner), 'works') in result, call


# Nothing is moved by trying or looking


def everything(learn):
    "All that a learner and its callbacks hold, as plain values"
    kept = dict(model=learn.model.state_dict(), training=learn.first_epoch)
    kept['optimiser'] = None if learn.opt is None else learn.opt.state_dict()
    kept_by = [cb for cb in learn.cbs if not isinstance(cb, RESULTS)]
    for cb in sorted(kept_by, key=lambda cb: cb.name):
        if hasattr(cb, 'state_dict'):
            kept[cb.name] = cb.state_dict()
        kept[cb.name, 'attributes'] = sorted(vars(cb))
    kept['log'] = learn.loss_history.steps
    return pickle.loads(pickle.dumps(kept))


def assert_same(one, other, where=''):
    "Equal values at the same places, tensors bit by bit"
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_same(value, other[key], f'{where}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for place, (value, other_value) in enumerate(zip(one, other)):
            assert_same(value, other_value, f'{where}.{place}')
    elif torch.is_tensor(one):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def seed_all():
    torch.manual_seed(1)
    np.random.seed(1)


def search(learn):
    "A search for a rate in which the loss diverges"
    with learn.no_bar(), np.errstate(all='ignore'):
        learn.lr_find(start_lr=1e-3, end_lr=1e3, num_it=10, stop_div=False, show_plot=False)


def build(name):
    "The learner of a method, of the oracle, or with a term of its own"
    preset = PRESET.changed(depth=True, integrate=0, rec_start=0)
    torch.manual_seed(0)
    pose = build_pose(MOUSE4, preset)
    if name == 'oracle':
        videos = mouse_videos('train', n_videos=1)
        return oracle_learner(loaders(True, depth=True), pose, preset, videos)
    if name == 'temporal':
        term = TemporalConsistency(sigma=preset.sigma)
        dls = loaders(True, depth=True, **TemporalConsistency.loaders)
        return adapt_learner(dls, pose, preset, (), cbs=[term])
    if name == 'align':
        return pose_learner(loaders(depth=True), preset, pose, restyle=jitter)
    method = METHODS[name]
    return method.build(loaders(True, depth=True, **method.loaders), pose, preset, mouse_style())


LEARNERS_WITH_STATE = [*METHODS, 'oracle', 'temporal', 'align']


@pytest.mark.parametrize('name', LEARNERS_WITH_STATE)
def test_lr_find_moves_nothing_that_stays(name, tmp_path):
    learn = build(name)
    learn.path = tmp_path
    seed_all()
    before = everything(learn)
    search(learn)
    assert_same(before, everything(learn))
    fit_quietly(learn)
    alone = build(name)
    seed_all()
    fit_quietly(alone)
    assert_same(everything(alone), everything(learn))


def test_lr_find_between_two_fits_moves_nothing(tmp_path):
    learn = adaptation(tmp_path)
    fit_quietly(learn, seed=1)
    search(learn)
    fit_quietly(learn)
    alone = fit_quietly(adaptation(), seed=1)
    fit_quietly(alone)
    assert_same(everything(alone), everything(learn))


def test_lr_find_that_is_interrupted_moves_nothing(tmp_path):
    learn = adaptation(tmp_path, cbs=[KillAt(epoch=1, iteration=1), EarlyStoppingCallback()])
    before = everything(learn)
    with pytest.raises(Killed):
        search(learn)
    assert_same(before, everything(learn))
    assert learn.early_stopping.run


def test_lr_find_writes_no_checkpoint_and_measures_no_labels(tmp_path):
    quality = LabelQuality(mouse_videos('train', n_videos=1), 4)
    file = tmp_path / 'last.pth'
    learn = adaptation(tmp_path, cbs=[Checkpoint(file), quality])
    search(learn)
    assert not file.exists()
    assert quality.epochs == []
    fit_quietly(learn)
    assert file.exists()
    assert len(quality.epochs) == 1


LOOKS = dict(
    validate=lambda learn: learn.validate(),
    get_preds=lambda learn: learn.get_preds(with_loss=True),
    predict=lambda learn: learn.predict(some_images()[0]),
    summary=lambda learn: learn.summary(),
    export=lambda learn: learn.export(),
    show_results=lambda learn: learn.show_results(max_n=2),
)


def look(learn):
    "All looks; none draws a number of torch's"
    for call in LOOKS.values():
        before = torch.get_rng_state()
        call(learn)
        assert torch.equal(torch.get_rng_state(), before)


@EVERY_LEARNER
def test_looks_move_nothing(learner, tmp_path):
    learn = LEARNERS[learner](tmp_path)
    look(learn)
    torch.manual_seed(1)
    fit_quietly(learn)
    look(learn)
    fit_quietly(learn)
    alone = LEARNERS[learner]()
    torch.manual_seed(1)
    fit_quietly(alone)
    fit_quietly(alone)
    assert_same(everything(alone), everything(learn))


# A fit that fails


class Fail(Callback):
    "Raises `Killed` at an event of the first step"

    def __init__(self, event):
        self.event = event
        setattr(self, event, self.fail)

    def fail(self):
        if self.training:
            raise Killed('now')


@pytest.mark.parametrize(
    'event', ['before_fit', 'before_batch', 'after_pred', 'before_backward', 'before_step']
)
def test_the_fit_after_a_failed_one_is_as_the_first(event):
    def learner():
        learn = pretraining(restyle=jitter)
        learn.to_bf16()
        return learn

    learn = learner()
    learn.training = True
    fail = Fail(event)
    with pytest.raises(Killed):
        fit_quietly(learn, cbs=[fail])
    assert n_autocasts() == 0
    assert not torch.is_autocast_enabled('cpu')
    assert not learn.model.pose.encoder._forward_hooks
    fresh = learner()
    learn.dls = fresh.dls
    state = fresh.dls.train.rng.getstate()
    fit_quietly(learn, seed=1)
    fresh.dls.train.rng.setstate(state)
    fit_quietly(fresh, seed=1)
    assert learn.recorder.metric_names.count('sup') == 1
    # batch norm has seen the images of a pass that was finished
    for weight, other in zip(learn.model.parameters(), fresh.model.parameters()):
        assert torch.equal(weight, other)


@EVERY_LEARNER
def test_columns_stand_once_after_failed_fit_and_lr_find(learner, tmp_path):
    learn = LEARNERS[learner](tmp_path)
    with pytest.raises(Killed):
        fit_quietly(learn, cbs=[KillAt(epoch=0, iteration=1)])
    search(learn)
    fit_quietly(learn)
    names = learn.recorder.metric_names
    assert len(set(names)) == len(names)


# Resume, with bars


def test_resumed_with_bars_and_twice_in_a_row(tmp_path, capsys):
    def learner(*cbs, folder='killed'):
        return adaptation(cbs=[Checkpoint(tmp_path / folder / 'last.pth'), *cbs])

    whole = learner(folder='whole')
    torch.manual_seed(1)
    whole.fit_one_cycle(3)
    killed = learner(KillAt(epoch=1, iteration=1))
    torch.manual_seed(1)
    with pytest.raises(Killed):
        killed.fit_one_cycle(3)
    once = learner(KillAt(epoch=2, iteration=0))
    assert once.resume(tmp_path / 'killed' / 'last.pth') == 1
    with pytest.raises(Killed):
        once.fit_one_cycle(3)
    twice = learner()
    assert twice.resume(tmp_path / 'killed' / 'last.pth') == 2
    capsys.readouterr()
    twice.fit_one_cycle(3)
    shown = capsys.readouterr().out
    assert 'valid_loss' in shown
    assert_same(whole.model.state_dict(), twice.model.state_dict())
    assert_same(whole.pseudo_label.state_dict(), twice.pseudo_label.state_dict())
    assert whole.loss_history.steps == twice.loss_history.steps


# Errors and warnings


@pytest.mark.parametrize('name', METHODS)
def test_every_method_says_what_it_was_not_given(name):
    method = METHODS[name]
    preset = PRESET.changed(depth=True)
    pose = build_pose(MOUSE4, preset)
    both = loaders(True, depth=True, **method.loaders)
    source = loaders(depth=True, **method.loaders)
    style = mouse_style()
    with pytest.raises(ConfigError, match='no frames of the target'):
        method.build(source, pose, preset, style)
    with pytest.raises(ConfigError, match='learn.model.pose'):
        method.build(both, 'model.pth', preset, style)


@pytest.mark.parametrize('name', METHODS)
def test_every_method_takes_a_learner_for_its_net(name):
    method = METHODS[name]
    preset = PRESET.changed(depth=True)
    source = pretraining_with_depth(preset)
    both = loaders(True, depth=True, **method.loaders)
    learn = method.build(both, source, preset, mouse_style())
    weights = source.model.pose.encoder.state_dict()
    assert torch.equal(learn.model.pose.encoder.conv1.weight, weights['conv1.weight'])


def pretraining_with_depth(preset):
    torch.manual_seed(0)
    return pose_learner(loaders(depth=True), preset)


def test_no_label_in_a_whole_adaptation_is_said(tmp_path):
    learn = adaptation(tmp_path, preset=PRESET.changed(gamma=1.0, keep=None))
    with pytest.warns(UserWarning, match='not a single joint became a label in 2 steps'):
        fit_quietly(learn)
    # once, and not by a search or a look
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        learn.validate()
        learn.get_preds()
        search(learn)
        fit_quietly(adaptation())


def test_images_that_are_none_are_refused():
    learn = pretraining()
    images = some_images()
    for wrong in (images.float(), images.float() / 0, images.long(), images[:, :1], images[0, 0]):
        with pytest.raises(DataError):
            learn.model.predict(wrong)
    with pytest.raises(DataError, match='divide by 255'):
        learn.predict(images[0].float())
    right = learn.model.predict(images)[1]
    assert torch.equal(right, learn.model.predict(images / 255)[1])


# What works, works as it should


def test_terms_that_begin_later_can_be_watched(tmp_path):
    late = PRESET.changed(rec_start=1, rec_attach=1)
    watch = SaveModelCallback(monitor='rec', fname='best')
    fit_quietly(adaptation(tmp_path, preset=late), 2, cbs=[watch])
    assert (tmp_path / 'models' / 'best.pth').exists()
    with without_tensorboard() as (callback, written):
        fit_quietly(adaptation(preset=late), 2, cbs=[callback(trace_model=False, log_preds=False)])
    names = {name for name, _, _ in written}
    assert {'train_loss', 'valid_loss', 'sup', 'pseudo', 'rec', 'lr_0', 'lr_1'} <= names
    values = [value for name, value, _ in written if name == 'rec']
    assert [np.isnan(value) for value in values] == [True, False]


@EVERY_LEARNER
def test_csv_logger_writes_every_column_once(learner, tmp_path):
    learn = LEARNERS[learner](tmp_path)
    with learn.no_bar():
        learn.fit(2, cbs=CSVLogger())
    header, *rows = list(csv.reader((tmp_path / 'history.csv').open()))
    assert header == list(learn.recorder.metric_names)
    assert len(set(header)) == len(header)
    assert [row[0] for row in rows] == ['0', '1']


@EVERY_LEARNER
def test_save_model_callback_brings_the_best_weights_back(learner, tmp_path):
    learn = LEARNERS[learner](tmp_path)
    fit_quietly(learn, 3, lr=0.05, cbs=[SaveModelCallback()])
    best = min(row[1] for row in learn.recorder.values)
    assert learn.validate()[0] == pytest.approx(best, rel=1e-4)


def test_early_stopping_stops():
    learn = pretraining()
    fit_quietly(learn, 6, lr=0.0, cbs=[EarlyStoppingCallback(min_delta=10, patience=2)])
    assert len(learn.recorder.values) <= 3


def test_accumulated_steps_are_those_of_both_callbacks():
    def trained(callback):
        learn = pose_learner_of_four_steps()
        fit_quietly(learn, seed=1, cbs=[callback])
        return learn.model.pose.head.weight.detach()

    torch.testing.assert_close(trained(GradientAccumulation(8)), trained(Accumulate(2)))


def pose_learner_of_four_steps():
    torch.manual_seed(0)
    return pose_learner(loaders(steps=4), PRESET.changed(amp=False))


def test_full_precision_is_full_on_the_cpu():
    class Watch(Callback):
        def after_pred(self):
            self.seen = torch.is_autocast_enabled('cpu')

    learn = pretraining(cbs=[Watch()])
    fit_quietly(learn.to_bf16())
    assert learn.watch.seen
    fit_quietly(learn.to_fp32())
    assert not learn.watch.seen
    assert not any(isinstance(cb, CPUMixedPrecision) for cb in learn.cbs)


@pytest.mark.parametrize('name', LEARNERS_WITH_STATE)
def test_learners_are_pickled_and_exported(name, tmp_path):
    learn = fit_quietly(build(name)) if name in ('ours', 'regda') else build(name)
    if name == 'uniframe':
        # the style of the tests, whose function has no name, is no part of the package
        learn.remove_cb(learn.pseudo_label)
    learn.path = tmp_path
    again = pickle.loads(pickle.dumps(learn))
    assert_same(learn.model.state_dict(), again.model.state_dict())
    learn.export()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded = load_learner(tmp_path / 'export.pkl')
    (joints, _, _), _ = loaded.get_preds(dl=loaded.dls.test_dl(some_images()))
    torch.testing.assert_close(joints, learn.model.predict(some_images())[0], atol=1e-4, rtol=0)
    # what is validated has labels; without a source nothing has
    is_source_free = name in METHODS and METHODS[name].source_free
    assert (learn.get_preds()[1] is None) == is_source_free


def test_exported_learner_predicts_in_a_new_process(tmp_path):
    learn = pretraining(tmp_path)
    learn.export()
    cv2.imwrite(str(tmp_path / 'mouse.png'), picture())
    script = f'''
import warnings
warnings.simplefilter('ignore')
from fastai.learner import load_learner
learn = load_learner({str(tmp_path / "export.pkl")!r})
print(learn.predict({str(tmp_path / "mouse.png")!r})[0].flatten().tolist())
'''
    command = [sys.executable, '-W', 'ignore', '-c', script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.tensor(eval(done.stdout)).view(-1, 2)
    expected = learn.predict(tmp_path / 'mouse.png')[0]
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def picture(side=96):
    "A picture larger than the crops, BGR"
    image = some_images(1)[0].permute(1, 2, 0).numpy()
    return cv2.resize(image, (side, side))[..., ::-1]


def test_files_frames_and_tensors_are_predicted_alike(tmp_path):
    learn = adaptation()
    names = ['b.png', 'a.png']
    for name, brightness in zip(names, (1.0, 0.5)):
        cv2.imwrite(str(tmp_path / name), picture(48) * brightness)
    paths = [tmp_path / name for name in names]
    (joints, confidence), labels = learn.get_preds(dl=learn.dls.test_dl(paths))
    assert labels is None
    for place, path in enumerate(paths):
        image = cv2.imread(str(path))[..., ::-1].copy()
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        pixels, normalised, sureness = learn.predict(tensor)
        torch.testing.assert_close(normalised, joints[place], atol=1e-4, rtol=0)
        torch.testing.assert_close(sureness, confidence[place], atol=1e-4, rtol=0)
        torch.testing.assert_close(learn.predict(path)[0], pixels, atol=1e-2, rtol=0)
    frames = mouse_videos('train', n_videos=1).frames()
    (joints, _), _ = learn.get_preds(dl=learn.dls.test_dl(frames))
    torch.testing.assert_close(joints[:2], learn.model.predict(some_images())[0])
    with pytest.raises(DataError, match='divide by 255'):
        learn.dls.test_dl(some_images().float())


@EVERY_LEARNER
def test_from_a_learner_to_a_file_that_predict_reads(learner, tmp_path):
    learn = LEARNERS[learner]()
    model, skeleton, preset, meta = load_model(learn.save_model(tmp_path / 'm.pth', crop='whole'))
    cv2.imwrite(str(tmp_path / 'mouse.png'), picture())
    source = tmp_path / 'mouse.png'
    out = tmp_path / 'out'
    _, pixels, _ = predict_media(model, skeleton, preset, meta, source, out, progress=False)
    assert (out / 'predictions.csv').exists()
    torch.testing.assert_close(pixels[0], learn.predict(source)[0], atol=1e-2, rtol=0)
