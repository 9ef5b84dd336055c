"The commands, end to end, as a user types them."

import re
import subprocess
import sys
import cv2
import numpy as np
import pytest
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import video_info, write_video
from geomrecon.learn.presets import PRESETS
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import read_coco, write_coco
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.use.cli import COMMANDS, main
from geomrecon.use.results_file import read_results
from test_one_step import MINI


def adapt(target, out, *options):
    "The exit status of `geomrecon adapt`"
    small = ['--crop', 'whole', '--preset', 'mini', '--no-bar']
    return main(['adapt', '--target', str(target), '--out', str(out), *small, *options])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A folder with a video `m.mp4`, and the adaptation to it in `out`"
    folder = tmp_path_factory.mktemp('run')
    labels = PuppetVideos(MOUSE4, 1, 30, 96, 'real', seed=0, split='test').batch(np.arange(30))
    write_video(folder / 'm.mp4', labels['image'].permute(0, 2, 3, 1).numpy(), 15)
    PRESETS['mini'] = MINI.changed(name='mini', steps=2, epochs=1, adapt_epochs=1)
    assert adapt(folder / 'm.mp4', folder / 'out', '--skeleton', 'mouse', '--pool', '32') == 0
    yield folder
    del PRESETS['mini']


@pytest.mark.parametrize(
    'name',
    [
        'model.pth',
        'labelled.mp4',
        'before_after.mp4',
        'predictions.csv',
        'predictions.json',
        'report.html',
        'results.json',
    ],
)
def test_adapt_writes(run, name):
    assert (run / 'out' / name).exists()


def test_adapt_measures_every_phase(run):
    results = read_results(run / 'out')
    assert [row['method'] for row in results['rows']] == ['source', 'pseudo', 'full']
    assert results['peak_rss_mb'] > 0
    assert video_info(run / 'out/labelled.mp4').n_frames == 30


def test_predict_repeats_what_adapt_wrote(run):
    out = run / 'pred'
    files = ['--model', str(run / 'out'), '--input', str(run / 'm.mp4'), '--out', str(out)]
    assert main(['predict', *files, '--no-bar']) == 0
    of_adapt = read_dlc_csv(run / 'out/predictions.csv', MOUSE4).keypoints
    of_predict = read_dlc_csv(out / 'predictions.csv', MOUSE4).keypoints
    as_coco = read_coco(out / 'predictions.json', MOUSE4).keypoints
    np.testing.assert_allclose(of_adapt, of_predict, atol=2e-3)
    np.testing.assert_allclose(as_coco, of_predict, atol=0.02)
    assert video_info(out / 'm_pose.mp4').n_frames == 30


def test_report_is_one_file(run):
    page = (run / 'out/report.html').read_text()
    assert 'src="http' not in page
    assert "src='http" not in page
    assert 'data:image/png;base64' in page


@pytest.fixture(scope='module')
def labelled(run):
    "Labelled images in COCO's format, with names of their own"
    folder = run / 'lab'
    folder.mkdir()
    labels = PuppetImages(MOUSE4, 24, 64, 'synthetic', seed=0).batch(range(24))
    names = [f'{i}.png' for i in range(24)]
    for name, picture in zip(names, labels['image'].permute(0, 2, 3, 1).numpy()):
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    file = folder / 'labels.json'
    write_coco(file, names, to_pixels(labels['keypoints'], 64).numpy(), MOUSE4, size=(64, 64))
    file.write_text(file.read_text().replace('"snout"', '"nose"'))
    return file


def test_adapt_from_own_labels(run, labelled):
    source = ['--skeleton', 'source', '--source', f'coco:{labelled}?margin=1.5']
    assert adapt(run / 'm.mp4', run / 'own', *source, '--no-video') == 0
    header = (run / 'own/predictions.csv').read_text().splitlines()[1]
    assert 'nose' in header
    assert read_results(run / 'own')['source'].startswith('coco:')


@pytest.mark.parametrize(
    'skeleton,source,says',
    [
        ('mouse', 'coco:{}', "no joint called|lacks"),
        ('source', 'randomised', "'source' with a rendered source"),
        ('source', 'coco:{}?colour=1', 'unknown option'),
        ('source', 'coco:nowhere.json', 'nowhere'),
    ],
)
def test_adapt_refuses(run, labelled, capsys, skeleton, source, says):
    options = ['--skeleton', skeleton, '--source', source.format(labelled)]
    assert adapt(run / 'm.mp4', run / 'no', *options) == 2
    assert re.search(says, capsys.readouterr().err)


@pytest.mark.parametrize(
    'name',
    [
        'rhd',
        'h3d',
        'mvhand',
        'freihand',
        'surreal',
        'surreal_crops',
        'human36m',
        'threedpw',
        'lsp',
        'coco',
        'dlc',
    ],
)
def test_data_lists(capsys, name):
    assert main(['data']) == 0
    assert f'{name}: ' in capsys.readouterr().out


def test_data_checks_and_draws(run, labelled, capsys):
    sheet = run / 'sheet.png'
    assert main(['data', '--dataset', f'coco:{labelled}', '--out', str(sheet)]) == 0
    assert sheet.exists()
    assert 'samples: 24' in capsys.readouterr().out
    assert main(['data', '--dataset', f'rhd:{labelled.parent}']) == 2
    assert 'RHD lacks' in capsys.readouterr().err


def test_help_names_every_command():
    script = 'from geomrecon.use.cli import main; main(["--help"])'
    command = [sys.executable, '-W', 'ignore', '-c', script]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    for name in ('demo', 'adapt', 'train', 'predict', 'data'):
        assert name in text
    for name in COMMANDS:
        assert name in text
