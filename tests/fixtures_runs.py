"Invented runs for tests and examples, and the bars that the project set itself. Nothing here was measured."

import numpy as np
from geomrecon.learn.presets import get_preset
from geomrecon.paper.benches import Bench
from geomrecon.paper.run_files import pck_from_counts

RATES = dict(
    source=0.45,
    aligned=0.55,
    bn=0.50,
    control=0.50,
    ccssl=0.56,
    regda=0.58,
    uniframe=0.62,
    semihand=0.57,
    dualnet=0.58,
    pseudo2d=0.62,
    heatmap=0.66,
    pseudo=0.64,
    full=0.69,
    oracle=0.82,
)  # Made-up share of hits of every method


def _made_up_counts(method, seed, skeleton, rate, n_videos, frames, changes):
    "Hits and seen, with deviations of their own for seeds, videos and joints"
    name = method + str(changes or '')
    random = np.random.default_rng([seed, sum(map(ord, name))])
    of_bench = np.random.default_rng(9)
    n_joints = skeleton.n_joints
    by_video = 0.12 * of_bench.standard_normal((n_videos, 1))
    by_joint = 0.08 * of_bench.standard_normal(n_joints)
    by_seed = 0.01 * random.standard_normal()
    rates = rate + by_video + by_joint + by_seed
    shape = (n_videos, n_joints)
    seen = np.random.default_rng(8).integers(frames // 2, frames + 1, shape)
    hits = random.binomial(seen, rates.clip(0.02, 0.98))
    return hits, seen, random


def made_up_run(
    method='full',  # Its rate of hits is made up as well
    seed=0,  # Seed of the run, and of the draws
    skeleton=None,  # `HAND21` or another; needed
    bench='hand',  # Name of the bench
    changes=None,  # As of a run
    rate=None,  # Rate of hits in place of the method's
    n_videos=16,  # Test videos
    frames=40,  # Frames of each
):
    "A run with invented figures of the right shape"
    if rate is None:
        rate = RATES.get(method, 0.6)
    hits, seen, random = _made_up_counts(
        method, seed, skeleton, rate=rate, n_videos=n_videos, frames=frames, changes=changes
    )
    run = dict(
        preset='tiny',
        bench=bench,
        method=method,
        changes=dict(changes or {}),
        seed=seed,
        seconds=200.0 + seed,
        threads=1,
        torch='made up',
        precision='float32',
        steps=400,
        joints=list(skeleton.joints),
        groups={group: list(joints) for group, joints in skeleton.groups.items()},
        test=dict(pck={}, hits=hits.tolist(), seen=seen.tolist()),
        valid=None,
    )
    groups = [*skeleton.groups, 'all']
    if 'head' in skeleton.groups:
        groups.append('all_no_head')
    run['test']['pck'] = {group: round(pck_from_counts(run, group), 4) for group in groups}
    _add_curves(run, random)
    return run


def _error_from(pck, factor):
    "A 3D error that falls where PCK rises"
    return {group: round(factor * (110 - value) / 4, 3) for group, value in pck.items()}


def _diagnosis_from(quality):
    return dict(
        coverage=0.3 + quality / 200, flip=0.2 - quality / 800, jitter=0.05 - quality / 3000
    )


def _add_curves(run, random):
    "3D errors, curves, labels and diagnosis that go with the PCK of a made-up run"
    method = run['method']
    epochs = np.arange(8)
    overall = run['test']['pck']['all']
    rise = 1 - np.exp(-epochs / 2)
    curve = overall - 12 * (1 - rise) + random.normal(0, 0.5, 8)
    run['test'].update(
        epe3d=_error_from(run['test']['pck'], 1.0), pa_epe3d=_error_from(run['test']['pck'], 0.7)
    )
    run['epochs'] = [
        dict(epoch=int(epoch), test=float(value), valid=float(value - 1))
        for epoch, value in zip(epochs, curve)
    ]
    run['labels'] = []
    if 'pseudo' in method or method == 'full':
        run['labels'] = [
            dict(
                epoch=int(epoch),
                selected=0.5 + 0.03 * float(epoch),
                correct=0.55 + 0.2 * float(risen) + (overall - 60) / 100,
            )
            for epoch, risen in zip(epochs, rise)
        ]
    quality_after = overall + 3 * random.standard_normal()
    run['diagnosis'] = dict(before=_diagnosis_from(50.0), after=_diagnosis_from(quality_after))


def runs_of_all_methods(skeleton, seeds=(0, 1, 2), bench='hand'):
    "Method -> its made-up runs"
    return {
        method: [made_up_run(method, seed, skeleton, bench) for seed in seeds] for method in RATES
    }


def made_up_confident(seed, skeleton, bench):
    "A run of `pseudo>full` with what Table 3 (c) shows"
    run = made_up_run('pseudo>full', seed, skeleton, bench, rate=0.7)
    random = np.random.default_rng(seed)
    n_joints = skeleton.n_joints
    before = random.uniform(60, 95, n_joints)
    count = random.integers(50, 400, n_joints)
    run['confident'] = dict(
        joints=list(skeleton.joints),
        count=count.tolist(),
        before=before.tolist(),
        after=(before + random.uniform(-2, 15, n_joints) * (before < 80)).tolist(),
        after_without=(before + random.uniform(-2, 3, n_joints)).tolist(),
        wrong=dict(
            count=int((count * (1 - before / 100)).sum()),
            before=0.0,
            after=22.0 + seed,
            after_without=9.0,
        ),
    )
    return run


# The bars that the project set itself, by kind of question (see `geomrecon.paper.questions`).

BARS = {'gap': 60, 'wrong': 10, 'wrong more': 10}
RECONSTRUCTION_BARS = {'overall': 2, 'ends': 4}


def bar_of(question):
    "The least that was hoped for; None where it is enough to be above the other"
    if question.kind == 'gain' and ': reconstruction,' in question.text:
        return RECONSTRUCTION_BARS['overall' if question.group == 'all' else 'ends']
    return BARS.get(question.kind)


def verdict(question, found):
    "'yes', 'no', 'by the mean alone', or '-' where nothing was measured"
    if found is None:
        return '-'
    if found == 'no gap':
        return 'no'
    bar = bar_of(question)
    if bar is None:
        if found.mean > 0 and not found.low > 0:
            return 'by the mean alone'
        return 'yes' if found.mean > 0 else 'no'
    is_reached = found.mean >= bar
    if question.kind != 'gap':
        is_reached = is_reached and found.low > 0  # A mean at the bar is not enough
    return 'yes' if is_reached else 'no'


# A bench of mice and a schedule of a few steps, to see the machine run.

QUICK = get_preset(
    'tiny',
    name='quick',
    steps=2,
    epochs=1,
    align_epochs=1,
    adapt_epochs=2,
    style_epochs=1,
    style_encoder_epochs=1,
    bs=8,
    adapt_bs=4,
    adapt_bs_target=4,
    style_bs=4,
    width=0.25,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    integrate=0.0,
    rec_attach=1.0,
)
FEW_MICE = Bench('mice', 'mouse', n_videos=4, n_frames=16, n_test=16)
