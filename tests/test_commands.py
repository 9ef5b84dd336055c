"The commands, end to end, as a user types them."

import json, subprocess, sys
import numpy as np, pytest
from geomrecon.use.cli import main
from geomrecon.readers.label_coco import read_coco
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.data.video import video_info, write_video
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.results_file import read_results
from geomrecon.core.skeleton import MOUSE4
from test_one_step import MINI


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    d = tmp_path_factory.mktemp('run')
    b = PuppetVideos(MOUSE4, 1, 30, 96, 'real', seed=0, split='test').batch(np.arange(30))
    write_video(d / 'm.mp4', (x.permute(1, 2, 0).numpy() for x in b['image']), 15)
    from geomrecon.learn.presets import PRESETS
    from dataclasses import replace

    PRESETS['mini'] = MINI.changed(name='mini', steps=2, epochs=1, adapt_epochs=1)
    assert (
        main(
            [
                'adapt',
                '--skeleton',
                'mouse',
                '--target',
                str(d / 'm.mp4'),
                '--crop',
                'whole',
                '--out',
                str(d / 'out'),
                '--preset',
                'mini',
                '--pool',
                '32',
                '--no-bar',
            ]
        )
        == 0
    )
    return d


def test_adapt_writes_everything(run):
    assert {
        'model.pth',
        'labelled.mp4',
        'before_after.mp4',
        'predictions.csv',
        'predictions.json',
        'report.html',
        'results.json',
    } <= {p.name for p in (run / 'out').iterdir()}
    res = read_results(run / 'out')
    assert [r['method'] for r in res['rows']] == ['source', 'pseudo', 'full'] and res[
        'peak_rss_mb'
    ] > 0
    assert video_info(run / 'out/labelled.mp4').n_frames == 30


def test_predict_repeats_what_adapt_wrote(run):
    assert (
        main(
            [
                'predict',
                '--model',
                str(run / 'out'),
                '--input',
                str(run / 'm.mp4'),
                '--out',
                str(run / 'pred'),
                '--no-bar',
            ]
        )
        == 0
    )
    a = read_dlc_csv(run / 'out/predictions.csv', MOUSE4)
    b = read_dlc_csv(run / 'pred/predictions.csv', MOUSE4)
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=2e-3)
    c = read_coco(run / 'pred/predictions.json', MOUSE4)
    np.testing.assert_allclose(c.keypoints, b.keypoints, atol=0.02)
    assert video_info(run / 'pred/m_pose.mp4').n_frames == 30


def test_report_is_one_file(run):
    page = (run / 'out/report.html').read_text()
    assert 'src="http' not in page and "src='http" not in page and 'data:image/png;base64' in page


@pytest.fixture(scope='module')
def labelled(run):
    "Labelled images in COCO's format, with names of their own"
    import cv2
    from geomrecon.readers.label_coco import write_coco
    from geomrecon.puppet.images import PuppetImages
    from geomrecon.core.geometry import to_pixels

    d = run / 'lab'
    d.mkdir()
    b = PuppetImages(MOUSE4, 24, 64, 'synthetic', seed=0).batch(range(24))
    for i, x in enumerate(b['image']):
        cv2.imwrite(str(d / f'{i}.png'), x.permute(1, 2, 0).numpy()[..., ::-1])
    write_coco(
        d / 'labels.json',
        [f'{i}.png' for i in range(24)],
        to_pixels(b['keypoints'], 64).numpy(),
        MOUSE4,
        (64, 64),
    )
    (d / 'labels.json').write_text((d / 'labels.json').read_text().replace('"snout"', '"nose"'))
    return d / 'labels.json'


def test_adapt_from_own_labels(run, labelled):
    assert (
        main(
            [
                'adapt',
                '--skeleton',
                'source',
                '--source',
                f'coco:{labelled}?margin=1.5',
                '--target',
                str(run / 'm.mp4'),
                '--crop',
                'whole',
                '--out',
                str(run / 'own'),
                '--preset',
                'mini',
                '--no-video',
                '--no-bar',
            ]
        )
        == 0
    )
    assert 'nose' in (run / 'own/predictions.csv').read_text().splitlines()[1] and read_results(
        run / 'own'
    )['source'].startswith('coco:')


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
    import re

    assert (
        main(
            [
                'adapt',
                '--skeleton',
                skeleton,
                '--source',
                source.format(labelled),
                '--target',
                str(run / 'm.mp4'),
                '--crop',
                'whole',
                '--out',
                str(run / 'no'),
                '--preset',
                'mini',
                '--no-bar',
            ]
        )
        == 2
    )
    assert re.search(says, capsys.readouterr().err)


def test_data_lists_checks_and_draws(run, labelled, capsys):
    assert main(['data']) == 0
    text = capsys.readouterr().out
    for name in (
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
    ):
        assert f'{name}: ' in text
    assert (
        main(['data', '--dataset', f'coco:{labelled}', '--out', str(run / 'sheet.png')]) == 0
        and (run / 'sheet.png').exists()
    )
    assert 'samples: 24' in capsys.readouterr().out
    assert main(['data', '--dataset', f'rhd:{labelled.parent}']) == 2
    assert 'RHD lacks' in capsys.readouterr().err


def test_help_reads_well():
    out = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', 'from geomrecon.cli import main; main(["--help"])'],
        capture_output=True,
        text=True,
    )
    for c in ('demo', 'adapt', 'train', 'predict', 'data'):
        assert c in out.stdout, out
