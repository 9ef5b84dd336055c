"Exported nets: they answer as the net does, say what they are, run without torch, and are not written where they would be wrong."

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
import cv2
import numpy as np
import pytest
import torch
import geomrecon.use.export as export_page
from geomrecon.core.errors import CheckpointError, ConfigError, DataError
from geomrecon.core.shared import SharedCoordinates, joints_alone
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import write_video
from geomrecon.learn.presets import get_preset
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.use.cli import main
from geomrecon.use.export import ENDINGS, TOLERANCE, check_export, clouds, differences
from geomrecon.use.export import export, load_net, read_export
from geomrecon.use.inputs import RECORD
from geomrecon.use.model_file import load_model, save_model
from geomrecon.use.onnx_runtime import FIELDS, OnnxPose
from fixtures_export import LITTLE, mouse_pictures, sure_model

ROOT = Path(__file__).resolve().parents[1]
MISSING = [
    name for name in ('onnx', 'onnxruntime', 'onnxscript') if not importlib.util.find_spec(name)
]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f'not installed: {MISSING}')

#: A net with depth, one without, and one whose encoder hands out its finer maps, as `lite` has it
NETS = dict(
    deep=LITTLE.changed(depth=True),
    flat=get_preset('compact').changed(size=48, width=0.125, stages=2, n_deconv=2, deconv_width=16),
    lite=get_preset('lite').changed(weights=None, size=48, stages=1, n_deconv=2, deconv_width=16),
)
#: What two joints of the last one share
SHARED = [('x', 'snout', 'tailbase', 0.1, 0.05, 10)]
#: A mouse that walks over the frame, and the ground without it
BACKGROUND = np.full((64, 96, 3), 200, np.uint8)


def walking(n=8):
    "Frames of a dark blob that crosses a bright ground"
    for number in range(n):
        frame = BACKGROUND.copy()
        cv2.ellipse(frame, (15 + 8 * number, 30), (9, 6), 20.0 * number, 0, 360, (40, 30, 20), -1)
        yield frame


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A folder with nets, a video of each kind, and images"
    folder = tmp_path_factory.mktemp('lab')
    motion = dict(crop='motion', side=30.0, background=torch.from_numpy(BACKGROUND))
    for name, preset in NETS.items():
        meta = motion if name == 'flat' else dict(crop='whole')
        net = sure_model(preset)
        if name == 'lite':
            net.pose.sharing = SharedCoordinates(SHARED, MOUSE4.joints)
        save_model(folder / f'{name}.pth', net, MOUSE4, preset, **meta)
    write_video(folder / 'mouse.mp4', mouse_pictures(6), 10)
    write_video(folder / 'walking.mp4', walking(), 10)
    (folder / 'stills').mkdir()
    for number, frame in enumerate(walking(3)):
        cv2.imwrite(str(folder / f'stills/f{number}.png'), frame[..., ::-1])
    (folder / 'boxes.csv').write_text('x,y,w,h\n' + '20.5,10,40,30\n' * 8)
    return folder


@pytest.fixture(scope='module')
def exported(lab):
    "The nets as ONNX files; writing them takes the longest, so it is done once"
    for name in NETS:
        export(model=lab / f'{name}.pth', licence='CC BY 4.0')
    return lab


# The same answers


@needs_onnx
@pytest.mark.parametrize('name', NETS)
def test_onnx_answers_as_the_net(exported, name):
    net = load_model(exported / f'{name}.pth')[0]
    answer, _ = read_export(exported / f'{name}.onnx')
    largest, n_tied = differences(answer, net, clouds(48, n=12, seed=7))
    assert all(largest[each] <= TOLERANCE[each] for each in largest), largest
    assert ('depth' in largest) == (name == 'deep')
    assert n_tied < 24


@pytest.mark.parametrize(
    'format,name', [('torchscript', each) for each in NETS] + [('pt2', 'deep')]
)
def test_torch_formats_answer_as_the_net(lab, tmp_path, format, name):
    file = export(model=lab / f'{name}.pth', format=format, out=tmp_path / f'x{ENDINGS[format]}')
    net = load_model(lab / f'{name}.pth')[0]
    answer, about = read_export(file, format)
    largest, _ = differences(answer, net, clouds(48, n=12, seed=7))
    assert all(largest[each] <= TOLERANCE[each] for each in largest), largest
    assert about['joints'] == list(MOUSE4.joints)


@needs_onnx
def test_the_file_knows_what_joints_share(exported):
    net = load_model(exported / 'lite.pth')[0]
    answer, _ = read_export(exported / 'lite.onnx')
    with joints_alone(net):
        largest, _ = differences(answer, net, clouds(48, n=12, seed=7))
    assert largest['keypoints'] > 1


@needs_onnx
@pytest.mark.parametrize('n', [1, 7])
def test_the_batch_is_dynamic(exported, n):
    net = OnnxPose(exported / 'deep.onnx', threads=1)
    images = clouds(48, n=7).numpy()
    answer = net.predict(images[:n])
    assert {name: values.shape for name, values in answer.items()} == dict(
        keypoints=(n, 4, 2), confidence=(n, 4), depth=(n, 4)
    )
    alone = net.predict(images[n - 1 : n])
    assert np.abs(alone['keypoints'][0] - answer['keypoints'][n - 1]).max() < 1e-3


# What a file says of itself


@needs_onnx
def test_metadata_is_there_for_other_tools(exported):
    import onnx

    proto = onnx.load(exported / 'flat.onnx')
    said = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert set(said) == set(FIELDS)
    assert said['joints'] == list(MOUSE4.joints)
    assert said['bones'] == [list(bone) for bone in MOUSE4.bones]
    assert said['licence'] == 'CC BY 4.0'
    assert said['geomrecon'] and said['weights'] and said['size'] == 48
    assert [said['crop'], said['side']] == ['motion', 30.0]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not any(node.metadata_props for node in proto.graph.node)
    assert str(exported).encode() not in (exported / 'flat.onnx').read_bytes()
    assert b'site-packages' not in (exported / 'flat.onnx').read_bytes()


@needs_onnx
def test_what_the_run_knew_of_cropping_comes_back(exported):
    about = OnnxPose(exported / 'flat.onnx', threads=1).about
    assert (about['background'] == BACKGROUND).all()
    assert about['skeleton'] == MOUSE4
    _, skeleton, preset, meta = load_net(exported / 'flat.onnx')
    assert skeleton == MOUSE4 and preset == NETS['flat']
    assert meta['side'] == 30.0


# Refused before anything is there


def test_a_difference_leaves_nothing_behind(lab, tmp_path, monkeypatch, capsys):
    "As if a weight had been lost on the way into the file"
    monkeypatch.setattr(export_page, 'ExportedPose', damaged)
    out = tmp_path / 'x.torchscript'
    out.write_bytes(b'an earlier export')
    words = ['export', '--model', str(lab / 'flat.pth'), '--format', 'torchscript']
    assert main([*words, '--out', str(out)]) == 2
    said = capsys.readouterr().err
    assert 'answers otherwise than the net: keypoints' in said
    assert 'nothing was written (expected at most keypoints 0.02 px' in said
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b'an earlier export'


def damaged(net, size, make=export_page.ExportedPose):
    "What is exported of a net, with another weight"
    exported = make(net, size)
    with torch.no_grad():
        exported.pose.head.weight[0].neg_()
    return exported


BAD_EXPORT = [
    (['--model', '{d}/gone.pth'], 'gone.pth: no such file'),
    (['--model', '{d}/stills'], 'is a folder without model.pth'),
    (['--model', '{d}/mouse.mp4'], 'mouse.mp4'),
    (['--format', 'tflite'], "--format: 'tflite' (expected one of ['onnx', 'torchscript', 'pt2'])"),
    (['--format', 'pt2', '--out', '{d}/x.onnx'], 'a file ending in .pt2 for --format pt2'),
    (['--format', 'torchscript', '--out', '{d}/flat.pth'], 'ending in .torchscript'),
    (['--format', 'torchscript', '--out', '{d}/mouse.mp4/x.torchscript'], 'is a file'),
    (['--format', 'torchscript', '--input', '{d}/gone.mp4'], 'gone.mp4'),
    (['--format', 'torchscript', '--input', '{d}/*.avi'], 'matches no file'),
    (['--format', 'torchscript', '--input', '{d}/boxes.csv'], 'boxes.csv'),
]


@pytest.mark.parametrize('words,says', BAD_EXPORT)
def test_bad_export_ends_in_one_line(lab, capsys, words, says):
    before = sorted(lab.rglob('*'))
    words = [word.replace('{d}', str(lab)) for word in words]
    if '--model' not in words:
        words += ['--model', str(lab / 'flat.pth')]
    if '--format' not in words:
        words += ['--format', 'torchscript']
    assert main(['export', *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith('geomrecon: ') and len(said.splitlines()) == 1
    assert says in said
    assert sorted(lab.rglob('*')) == before


def test_without_onnx_the_extra_is_named(lab, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    assert main(['export', '--model', str(lab / 'flat.pth')]) == 2
    said = capsys.readouterr().err
    assert 'onnxscript' in said and 'pip install geomrecon[export]' in said
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ConfigError, match=r'geomrecon\[export\]'):
        load_net(lab / 'any.onnx')


def changed_metadata(lab, tmp_path, **changes):
    "A copy of an exported file that says other things of itself"
    import onnx

    proto = onnx.load(lab / 'flat.onnx')
    said = {entry.key: entry.value for entry in proto.metadata_props}
    onnx.helper.set_model_props(proto, {**said, **changes})
    onnx.save(proto, tmp_path / 'changed.onnx')
    return tmp_path / 'changed.onnx'


@needs_onnx
def test_files_of_others_are_one_typed_line(exported, tmp_path, capsys):
    import onnx

    plain = onnx.load(exported / 'flat.onnx')
    plain.ClearField('metadata_props')
    onnx.save(plain, tmp_path / 'plain.onnx')
    (tmp_path / 'bad.onnx').write_bytes(b'nonsense')
    (tmp_path / 'cut.onnx').write_bytes((exported / 'flat.onnx').read_bytes()[:-4000])
    bad = dict(
        plain='does not say what joints it gives',
        bad='cannot be opened as ONNX',
        cut='cannot be opened as ONNX',
        gone='no such file',
    )
    for name, says in bad.items():
        words = ['predict', '--model', str(tmp_path / f'{name}.onnx'), '--out', str(tmp_path / 'o')]
        assert main([*words, '--input', str(exported / 'mouse.mp4')]) == 2
        said = capsys.readouterr().err
        assert says in said and len(said.splitlines()) == 1, said
        assert not (tmp_path / 'o').exists()


@needs_onnx
@pytest.mark.parametrize(
    'changes,says',
    [
        (dict(size='64'), 'crops of 64 px'),
        (dict(size='"large"'), 'crops of large px'),
        (dict(skeleton='{"name": 3}'), 'says of itself'),
        (dict(skeleton='{'), 'says of itself'),
        (dict(background='"no picture"'), 'says of itself'),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(exported, tmp_path, changes, says):
    with pytest.raises(CheckpointError, match=says):
        OnnxPose(changed_metadata(exported, tmp_path, **changes))


@needs_onnx
def test_a_file_without_a_preset_is_refused(exported, tmp_path):
    file = changed_metadata(exported, tmp_path, preset='{"size": "wide"}')
    with pytest.raises(CheckpointError, match='names no preset'):
        load_net(file)


# A video, with and without torch


def tables(folder):
    "Keypoints and likelihoods in the tables of a folder"
    labels = read_dlc_csv(folder / 'predictions.csv', MOUSE4)
    coco = json.loads((folder / 'predictions.json').read_text(encoding='utf-8'))
    return labels, coco


def same_tables(one, other):
    "Do two folders hold the same joints, up to 0.02 px and 0.002 of likelihood?"
    (labels, coco), (other_labels, other_coco) = tables(one), tables(other)
    assert labels.names == other_labels.names
    assert np.abs(labels.keypoints - other_labels.keypoints).max() < 0.02
    assert np.abs(labels.likelihood - other_labels.likelihood).max() < 2e-3
    assert coco['images'] == other_coco['images']
    assert coco['categories'] == other_coco['categories']
    for row, other_row in zip(coco['annotations'], other_coco['annotations'], strict=True):
        assert np.abs(np.subtract(row['keypoints'], other_row['keypoints'])).max() < 0.02


WITHOUT_TORCH = '''
import sys
for name in ('torch', 'torchvision', 'fastai', 'onnx', 'onnxscript', 'matplotlib', 'pandas'):
    sys.modules[name] = None
from geomrecon.use.onnx_runtime import OnnxPose
folder, out = sys.argv[1:]
deep = OnnxPose(folder + '/deep.onnx', threads=1)
flat = OnnxPose(folder + '/flat.onnx', threads=1)
given = dict(whole=(deep, 'mouse.mp4', None), moving=(flat, 'walking.mp4', None))
given['single'] = (flat, 'stills/f1.png', None)
given['stills'] = (flat, 'stills', 'whole')
given['boxes'] = (flat, 'walking.mp4', folder + '/boxes.csv')
for name, (net, source, crop) in given.items():
    predicted = net.run(folder + '/' + source, crop)
    net.write(out + '/' + name, predicted)
    print(name, len(predicted.names), predicted.depth is not None)
'''


@needs_onnx
def test_without_torch_the_tables_are_those_of_predict(exported, tmp_path):
    "In a process in which torch and all that needs it cannot be imported"
    script = [sys.executable, '-W', 'ignore', '-c', WITHOUT_TORCH]
    done = subprocess.run(
        [*script, str(exported), str(tmp_path)], capture_output=True, text=True, encoding='utf-8'
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'whole 6 True' in done.stdout and 'moving 8 False' in done.stdout
    given = dict(
        whole=('deep', 'mouse.mp4', []),
        moving=('flat', 'walking.mp4', []),
        single=('flat', 'stills/f1.png', []),
        stills=('flat', 'stills', ['--crop', 'whole']),
        boxes=('flat', 'walking.mp4', ['--crop', str(exported / 'boxes.csv')]),
    )
    for name, (net, source, options) in given.items():
        folder = tmp_path / 'torch' / name
        assert predict(exported, f'{net}.pth', source, folder, '--no-video', *options) == 0
        same_tables(tmp_path / name, folder)


def predict(lab, model, source, out, *options):
    "The exit status of `geomrecon predict`"
    files = ['--model', str(lab / model), '--input', str(lab / source), '--out', str(out)]
    return main(['predict', *files, '--no-bar', '--device', 'cpu', '--no-diagnosis', *options])


@needs_onnx
def test_predict_gives_all_that_it_gives_for_a_run(exported, tmp_path, capsys):
    words = ['--model', str(exported / 'deep.onnx'), '--input', str(exported / 'mouse.mp4')]
    assert main(['predict', *words, '--out', str(tmp_path / 'onnx'), '--no-bar']) == 0
    said = capsys.readouterr().out
    assert '6 frames' in said and 'without labels' in said
    assert predict(exported, 'deep.pth', 'mouse.mp4', tmp_path / 'torch') == 0
    same_tables(tmp_path / 'onnx', tmp_path / 'torch')
    names = {path.name for path in (tmp_path / 'onnx').iterdir()}
    assert {'mouse_pose.mp4', 'predictions_3d.csv', 'moments.csv', RECORD} <= names
    lifted = [
        np.genfromtxt(tmp_path / kind / 'predictions_3d.csv', delimiter=',', skip_header=2)
        for kind in ('onnx', 'torch')
    ]
    assert lifted[0].shape == lifted[1].shape
    assert np.isfinite(lifted[0][:, 1:]).any()
    assert np.allclose(*lifted, rtol=0.01, atol=0.01, equal_nan=True)


@needs_onnx
def test_other_options_of_predict_know_the_file(exported, tmp_path, capsys):
    assert predict(exported, 'flat.onnx', 'mouse.mp4', tmp_path, '--bone-length', '80') == 2
    assert 'net without depth' in capsys.readouterr().err
    with pytest.raises(ConfigError, match='--device cpu'):
        load_net(exported / 'flat.onnx')[0].to('cuda:7')


@needs_onnx
def test_export_on_the_command_line(lab, tmp_path, capsys):
    "Checked on crops of one's own, cropped as in the run"
    out = tmp_path / 'mine.torchscript'
    words = ['export', '--model', str(lab / 'flat.pth'), '--format', 'torchscript']
    assert main([*words, '--out', str(out), '--input', str(lab / 'walking.mp4')]) == 0
    said = capsys.readouterr().out
    assert 'mine.torchscript' in said and 'images: uint8 (N,48,48,3)' in said
    assert 'checked on 8 crops of walking.mp4, largest differences: keypoints' in said
    assert 'licence: not stated' in said
    assert [path.name for path in tmp_path.iterdir()] == ['mine.torchscript']


def test_numbers_that_are_none_are_a_difference():
    with pytest.raises(DataError, match='keypoints nan px'):
        check_export('x.onnx', dict(keypoints=float('nan'), confidence=0.0))
