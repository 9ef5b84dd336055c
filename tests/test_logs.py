"`--log`: what each of fastai's loggers holds of a run, that a resumed run goes on in it, and that no weight is moved by it."

import csv
import importlib.util
import json
import struct
import time

import pytest
import torch

from fixtures_fastai import adaptation
from fixtures_interrupted import mouse_video
from fixtures_learn import KillAt, Killed
from fixtures_use import SMALL, mouse_videos, small_task
from geomrecon.core.errors import ConfigError
from geomrecon.core.show_pose import show_poses
from geomrecon.learn.logs import LOGS, TRAINING_LOGS, check_log, run_log
from geomrecon.models.style_training import encoder_learner
from geomrecon.use import cli
from geomrecon.use.report import Section, write_report
from geomrecon.use.task import train_phase

KINDS = pytest.mark.parametrize('kind', LOGS)

#: Terms of every kind: depth, pseudo-labels in 3D, reconstruction
PRESET = SMALL.changed(steps=2, epochs=2, adapt_epochs=2, integrate=1.0, bs=4, adapt_bs=4)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    "Nothing leaves the machine"
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')


def skip_without(kind):
    if importlib.util.find_spec(LOGS[kind]) is None:
        pytest.skip(f'{LOGS[kind]} is not installed: pip install geomrecon[logs]')


# What was logged, read back


def tensorboard_rows(folder, name):
    "Of each column of fastai's table the (step, value) pairs; pictures by name"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / name), dict(scalars=0, images=0)).Reload()
    tags = events.Tags()
    columns = {}
    for tag in tags['scalars']:
        columns[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return columns, tags['images']


def records_of(content):
    "Records of a log of wandb: blocks of 32 kB, in which a record is whole or in parts"
    place, whole = 7, b''
    while place < len(content):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack('<IHB', content[place : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        is_end = kind in (1, 4)
        if is_end:
            yield whole
            whole = b''


def finished_records(file):
    "All records of a log, which another process of wandb's may still be writing"
    from wandb.proto.wandb_internal_pb2 import Record

    for _ in range(100):
        records = []
        for data in records_of(file.read_bytes()):
            records.append(Record())
            records[-1].ParseFromString(data)
        if any(record.HasField('exit') for record in records):
            break
        time.sleep(0.1)
    return records


def wandb_rows(folder, name):
    "The same of all offline runs of one name"
    columns, pictures = {}, []
    for file in sorted(folder.glob('wandb/offline-run-*/run-*.wandb')):
        records = finished_records(file)
        names = [record.run.display_name for record in records if record.HasField('run')]
        if names[0] != name:
            continue
        for record in records:
            for item in record.history.item:
                keys = list(item.nested_key) or [item.key]
                if keys[-1] == '_type':
                    pictures.append(keys[0])
                value = json.loads(item.value_json)
                columns.setdefault('/'.join(keys), []).append((record.history.step.num, value))
    return columns, pictures


def csv_rows(folder, name):
    "The same of a table, with the row's epoch for a step; pictures of all trainings"
    columns = {}
    if (folder / f'{name}.csv').exists():
        with open(folder / f'{name}.csv', encoding='utf-8', newline='') as file:
            for row in csv.DictReader(file):
                for column, value in row.items():
                    columns.setdefault(column, []).append((int(row['epoch']), value))
    return columns, [path.name for path in folder.glob('report/*.png')]


READ = dict(tensorboard=tensorboard_rows, wandb=wandb_rows, csv=csv_rows)


# A run


def run_of(folder, kind=None):
    "Two trainings and a report, logged or not; the task and its adapted learner"
    task = small_task(folder, PRESET, quality=mouse_videos('train', 1, 20))
    task.log = run_log(kind, folder)
    source, _ = task.pretrain(bar=False)
    learn, _ = task.adapt(source.model.pose, bar=False)
    images = task.frames.images([0, 1])
    shown = show_poses(images, learn.model.predict(images)[0], task.skeleton)
    results = dict(rows=[dict(method='full', seconds=1.0, confidence=dict(all=0.5))])
    sections = [Section('Before and after', '', [shown], ['test frames'])]
    write_report(folder, 'A run', results, sections, log=task.log)
    return learn


@pytest.fixture(scope='module')
def unlogged(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp('unlogged') / 'run')


@KINDS
def test_a_log_holds_all_terms_and_pictures_and_moves_no_weight(kind, unlogged, tmp_path):
    skip_without(kind)
    learn = run_of(tmp_path / 'run', kind)
    columns, _ = READ[kind](tmp_path / 'run/logs', 'pseudo_rec')
    recorded = list(learn.recorder.metric_names[2:-1])
    assert {'sup', 'depth', 'pseudo', 'rec'} <= set(recorded)
    assert {'labelled', 'M_2D', 'M_3D', 'selected', 'correct'} <= set(recorded)
    assert set(recorded) <= set(columns)
    # the last value is that of the table
    for name, value in zip(recorded, learn.recorder.final_record[1:]):
        assert float(columns[name][-1][1]) == pytest.approx(float(value), rel=1e-5), name
        assert len(columns[name]) == PRESET.adapt_epochs
    # the first training has a log of its own, the report one with its picture
    assert 'sup' in READ[kind](tmp_path / 'run/logs', 'source')[0]
    [picture] = READ[kind](tmp_path / 'run/logs', 'report')[1]
    assert 'before' in picture.lower()
    # the weights are those of a run without a log, and the learner is as that of one
    for name, weight in unlogged.model.state_dict().items():
        assert torch.equal(weight, learn.model.state_dict()[name]), name
    assert [type(cb) for cb in learn.cbs] == [type(cb) for cb in unlogged.cbs]


# A run that is killed and goes on

N_EPOCHS, N_STEPS = 3, 2


def training(folder, kind, *cbs):
    "A training of three epochs of two steps, logged from the start or where it goes on"
    learn = adaptation(cbs=cbs)
    train_phase(
        learn, folder / 'full.ckpt', N_EPOCHS, meta={}, bar=False, log=run_log(kind, folder)
    )
    return learn


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The training without a kill, and its table"
    folder = tmp_path_factory.mktemp('whole')
    learn = training(folder, 'csv')
    return learn, folder


#: Step at which the last value of an epoch is logged, of epochs of `N_STEPS` steps
STEP_OF_EPOCH = dict(
    tensorboard=lambda epoch: N_STEPS * (epoch + 1),
    wandb=lambda epoch: N_STEPS * (epoch + 1) - 1,
    csv=lambda epoch: epoch,
)


@KINDS
def test_a_killed_run_goes_on_in_its_log(kind, whole, tmp_path):
    skip_without(kind)
    with pytest.raises(Killed):
        training(tmp_path, kind, KillAt(epoch=1, iteration=0))
    # files of events are in the order of the seconds in their names
    time.sleep(1 if kind == 'tensorboard' else 0)
    resumed = training(tmp_path, kind)
    learn, folder = whole
    expected, _ = csv_rows(folder / 'logs', 'full')
    for name, weight in learn.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    found, _ = READ[kind](tmp_path / 'logs', 'full')
    for name in ('sup', 'pseudo', 'labelled', 'rec', 'valid_loss'):
        steps = [STEP_OF_EPOCH[kind](epoch) for epoch in range(N_EPOCHS)]
        assert [step for step, _ in found[name]] == steps, name
        for (_, value), (_, other) in zip(found[name], expected[name]):
            assert number(value) == pytest.approx(number(other), rel=1e-5, nan_ok=True), name
    if kind != 'csv':
        # every step stands once, also that which the kill has lost
        steps = [step for step, _ in found['lr_0']]
        assert sorted(set(steps)) == steps or kind == 'tensorboard'
        assert len(set(steps)) == N_EPOCHS * N_STEPS


def number(value):
    "A logged value; NaN for a term that has not begun"
    return float('nan') if value in (None, 'None', 'NaN') else float(value)


def test_a_style_net_that_goes_on_has_a_row_for_each_epoch(tmp_path):
    "fastai passes over epochs that are done, and has no values for them"
    task = small_task(tmp_path, PRESET)
    file = tmp_path / 'logs/style.csv'

    def style(*cbs):
        torch.manual_seed(0)
        learn = encoder_learner(task._style_dls(), (4, 8), 1e-3)
        learn.add_cbs(cbs)
        path = tmp_path / 'style.ckpt'
        train_phase(learn, path, 3, meta={}, bar=False, log=run_log('csv', tmp_path))

    with pytest.raises(Killed):
        style(KillAt(epoch=2, iteration=1))
    before = file.read_text(encoding='utf-8')
    style()
    after = file.read_text(encoding='utf-8')
    assert after.startswith(before)
    assert [line.split(',')[0] for line in after.splitlines()] == ['epoch', '0', '1', '2']


# The commands


def test_a_fresh_run_begins_a_new_log(whole):
    learn, folder = whole
    (folder / 'full.ckpt').unlink()
    training(folder, 'csv')
    assert len((folder / 'logs/full.csv').read_text(encoding='utf-8').splitlines()) == N_EPOCHS + 1


def wrong(tmp_path, *arguments):
    "What a command says of a wrong option; nothing is written"
    out = tmp_path / 'out'
    video = mouse_video(tmp_path / 'mouse.mp4', n_frames=12)
    given = dict(
        demo=['--skeleton', 'mouse'],
        adapt=['--skeleton', 'mouse', '--target', str(video)],
        train=['--source', 'rhd:none', '--target', 'rhd:none'],
    )
    command, *options = arguments
    assert cli.main([command, '--out', str(out), *given[command], *options]) == 2
    assert not out.exists()


@pytest.mark.parametrize('command', ['demo', 'adapt', 'train'])
def test_a_wrong_log_is_named_before_anything_is_written(command, tmp_path, capsys, monkeypatch):
    wrong(tmp_path, command, '--log', 'comet')
    said = capsys.readouterr().err
    assert "--log: 'comet'" in said
    assert all(kind in said for kind in LOGS)
    monkeypatch.setitem(LOGS, 'tensorboard', 'no_such_package')
    wrong(tmp_path, command, '--log', 'tensorboard')
    said = capsys.readouterr().err
    assert 'no_such_package' in said
    assert "geomrecon[logs]" in said


def test_wandb_without_a_key_is_told_at_once(monkeypatch, tmp_path):
    skip_without('wandb')
    monkeypatch.setenv('WANDB_MODE', 'online')
    monkeypatch.setenv('NETRC', str(tmp_path / 'none'))
    monkeypatch.delenv('WANDB_API_KEY', raising=False)
    with pytest.raises(ConfigError, match='WANDB_MODE=offline'):
        check_log('wandb')


def test_every_log_can_be_opened():
    assert list(TRAINING_LOGS) == list(LOGS)
