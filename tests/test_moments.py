"Moments that are probably wrong: planted faults are found, for a bounded price, and what is said of trust is what was measured."

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.frames import VideoFrames
from geomrecon.data.video import write_video
from geomrecon.learn.learner import build_model
from geomrecon.models.adapter import PoseAdapter
from geomrecon.paper.label_free import diagnosis_changes, within_benches
from geomrecon.paper.run_files import load_runs
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.cli import main
from geomrecon.use.diagnosis import FIGURES, TRUST, diagnose
from geomrecon.use.model_file import save_model
from geomrecon.use.moments import examine, reasons, worst_moments
from geomrecon.use.predict import predict_frames
from fixtures_project import root
from fixtures_use import SMALL

RATE = 20
LENGTH = 60


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Two videos of rendered mice, their true poses, and a net that has learned nothing"
    folder = tmp_path_factory.mktemp('lab')
    poses = []
    for seed, name in enumerate(('a.mp4', 'b.mp4')):
        mouse = PuppetVideos(MOUSE4, 1, LENGTH, 64, 'real', seed=seed, split='test')
        mouse = mouse.batch(np.arange(LENGTH))
        write_video(folder / name, mouse['image'].permute(0, 2, 3, 1).numpy(), RATE)
        poses.append(mouse['keypoints'].float())
    torch.manual_seed(0)
    preset = SMALL.changed(depth=False)
    model = build_model(MOUSE4, preset).eval()
    save_model(folder / 'model.pth', model, MOUSE4, preset, crop='whole')
    return folder, model, torch.cat(poses)


@pytest.fixture(scope='module')
def frames(lab):
    return VideoFrames([lab[0] / 'a.mp4', lab[0] / 'b.mp4'], 48, 'whole', progress=False)


def jumped(keypoints, likelihood):
    keypoints[25, 1] += torch.tensor([0.5, 0.4])
    return 'leftear jumps'


def unsure(keypoints, likelihood):
    likelihood[25, 3] = 0.1
    return 'tailbase unsure 0.10'


def stretched(keypoints, likelihood):
    "The same for four frames, so that time alone shows it at the ends only"
    keypoints[24:28, 2] += 6 * (keypoints[24:28, 2] - keypoints[24:28, 0])
    return 'snout-rightear'


@pytest.mark.parametrize('spoil', [jumped, unsure, stretched])
def test_a_planted_fault_is_found(lab, frames, spoil):
    keypoints = lab[2].clone()
    likelihood = torch.full(keypoints.shape[:2], 0.9)
    expected = spoil(keypoints, likelihood)
    predicted = frames.to_frame(keypoints), likelihood, keypoints
    findings = examine(lab[1], frames, MOUSE4, predicted, n=12)
    assert expected in '; '.join(reasons(findings, 25, MOUSE4))
    # among the worst tenth; a jump shows by several signs, and is the worst of all
    assert findings.score[25] > np.quantile(findings.score, 0.9)
    if spoil is jumped:
        assert worst_moments(findings, frames, MOUSE4, n=3)['row'][0] == 25


def test_moments_are_apart_in_time_and_of_several_inputs(lab, frames):
    findings = examine(lab[1], frames, MOUSE4, predict_frames(lab[1], frames), n=12)
    # all of the first video is more suspicious than any of the second
    findings.score = findings.score + 10.0 * (frames.video_id == 0)
    worst = worst_moments(findings, frames, MOUSE4, n=4)
    assert worst['input'].tolist() == ['a.mp4', 'a.mp4', 'a.mp4', 'b.mp4']
    numbers = np.sort(worst['frame'][:3].astype(int))
    assert (np.diff(numbers) > RATE / 2).all()
    assert worst['score'].is_monotonic_decreasing


def test_the_price_is_bounded(lab, frames, monkeypatch):
    "Two passes over at most n frames, whatever the length of the videos"
    seen = []
    real = PoseAdapter.predict

    def counted(self, images, *args, **kwargs):
        seen.append(len(images))
        return real(self, images, *args, **kwargs)

    predicted = predict_frames(lab[1], frames)
    monkeypatch.setattr(PoseAdapter, 'predict', counted)
    findings = examine(lab[1], frames, MOUSE4, predicted, n=10)
    assert sum(seen) == 2 * 10
    assert findings.n_viewed == 10


def test_figures_are_those_of_diagnose(lab, frames):
    "Over all frames, where `diagnose` draws some; on all of them it says the same"
    predicted = predict_frames(lab[1], frames)
    found = examine(lab[1], frames, MOUSE4, predicted, n=1000).figures
    drawn = diagnose(lab[1], frames, MOUSE4, n=10_000)
    for name in ('coverage', 'confidence', 'jitter', 'jitter_ratio', 'bones'):
        assert found[name] == pytest.approx(drawn[name], rel=1e-3), name
    # of `diagnose` the first and the last frame of a video have no part in these
    for name in ('flip', 'spread'):
        assert found[name] == pytest.approx(drawn[name], rel=0.05), name
    assert set(found) <= set(FIGURES)


def test_images_that_are_no_series_have_no_jumps(lab, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64, 3), np.uint8)
    for number, picture in enumerate(noise):
        cv2.imwrite(str(tmp_path / f'{number}.png'), picture)
    unrelated = VideoFrames(tmp_path, 48, 'whole', progress=False)
    findings = examine(lab[1], unrelated, MOUSE4, predict_frames(lab[1], unrelated))
    assert 'jump' not in findings.values
    assert findings.missing == {'jitter and jumps': '6 images, no series in time'}


def test_frames_of_a_video_in_a_folder_are_a_series(lab, frames, tmp_path):
    for number, (_, picture) in enumerate(frames.originals(range(20))):
        cv2.imwrite(str(tmp_path / f'{number:03}.png'), picture)
    series = VideoFrames(tmp_path, 48, 'whole', progress=False)
    findings = examine(lab[1], series, MOUSE4, predict_frames(lab[1], series))
    assert 'jump' in findings.values
    assert findings.missing == {}


# The command


def predict(lab, out, *options, source='a.mp4'):
    files = ['--model', str(lab[0] / 'model.pth'), '--input', str(lab[0] / source)]
    return main(['predict', *files, '--out', str(out), '--no-bar', '--no-video', *options])


def test_predict_says_and_draws_it(lab, tmp_path, capsys):
    assert predict(lab, tmp_path / 'with') == 0
    said = capsys.readouterr().out
    assert 'without labels, over 60 frames (60 of them mirrored and turned)' in said
    assert 'went closely with accuracy (-0.81' in said
    assert 'worst moments' in said
    table = pd.read_csv(tmp_path / 'with/moments.csv')
    assert table.columns.tolist() == ['input', 'frame', 'score', 'reasons']
    assert table['reasons'].str.len().min() > 0
    assert cv2.imread(str(tmp_path / 'with/moments.png')) is not None
    assert predict(lab, tmp_path / 'without', '--no-diagnosis') == 0
    assert 'without labels' not in capsys.readouterr().out
    assert not list((tmp_path / 'without').glob('moments*'))
    # the predictions are the same, to the byte
    for name in ('predictions.csv', 'predictions.json'):
        one, other = tmp_path / 'with' / name, tmp_path / 'without' / name
        assert one.read_bytes() == other.read_bytes()


def test_predict_says_what_it_cannot_compute(lab, frames, tmp_path, capsys):
    picture = next(frames.originals([0]))[1]
    cv2.imwrite(str(lab[0] / 'one.png'), picture)
    assert predict(lab, tmp_path, source='one.png') == 0
    said = capsys.readouterr().out
    assert 'not computed: jitter and jumps (a single image, no series in time)' in said
    assert not list(tmp_path.glob('moments*'))


# Trust


def test_trust_is_what_the_runs_say():
    "The table in the library against the runs in the repository; the wing computes, the library states"
    changes = diagnosis_changes(load_runs(root / 'results/tables/runs'), 'tiny')
    adapted = changes[~changes['method'].isin(['oracle', 'control', 'bn'])]
    measured = [name for name in FIGURES if name in adapted]
    assert set(TRUST) == set(measured)
    for name, trust in TRUST.items():
        there, found = within_benches(adapted, name)
        assert trust.runs == len(there), name
        assert trust.correlation == pytest.approx(found.mean, abs=6e-4), name
        if trust.low is None:
            assert np.isnan(found.low), name
        else:
            assert (trust.low, trust.high) == pytest.approx((found.low, found.high), abs=6e-4)
