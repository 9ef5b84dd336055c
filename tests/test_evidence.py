"The machine behind the tables: killed lists go on, nothing is done twice, files are consistent."

import contextlib
from pathlib import Path
import pytest
import torch
from geomrecon.core.files import plain
from geomrecon.learn.presets import get_preset
from geomrecon.paper.benches import Bench
from geomrecon.paper.run_files import load_runs
from geomrecon.paper.search import (
    best_settings,
    search_is_complete,
    search_results,
    search_specs,
)
from geomrecon.paper.settings import SEARCH, TUNED, spec
from geomrecon.paper.training import claimed, open_shared
from geomrecon.paper.work_list import finished, work_on

RUNS = Path(__file__).parents[1] / 'results/tables/runs'
QUICK = get_preset(
    'tiny-2d',
    name='quick',
    steps=2,
    epochs=1,
    adapt_epochs=2,
    bs=8,
    adapt_bs=4,
    adapt_bs_target=4,
    width=0.25,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_attach=1.0,
)
MICE = Bench('mice', 'mouse', n_videos=2, n_frames=16, n_test=16)


@pytest.fixture
def where(tmp_path):
    "Folders of results and of checkpoints"
    return dict(results=tmp_path / 'results', work=tmp_path / 'checkpoints')


def mice(method, seed=0):
    return spec(MICE, method, seed, preset=QUICK)


def weights_of(run, where):
    folder = where['work'] / 'quick/mice/0' / run.room
    return torch.load(folder / 'run.ckpt', weights_only=True)['model']


def test_a_killed_list_goes_on_where_it_was(where):
    todo = [mice(method) for method in ('source', 'pseudo', 'full')]

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_on(todo, **where, tell=stop)
    assert finished(todo[0], where['results'])
    assert finished(todo[1], where['results']) is None
    told = []
    assert work_on(todo, **where, tell=told.append) == 2
    assert len(told) == 2
    assert work_on(todo, **where) == 0


def test_a_lost_file_of_figures_is_made_from_the_checkpoint(where):
    full = mice('full')
    work_on([full], **where, tell=print)
    before = weights_of(full, where)
    (where['results'] / full.path).unlink()
    assert work_on([full], **where, tell=print) == 1
    after = weights_of(full, where)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_another_process_prepares_comes_last(where):
    todo = [mice('source', seed) for seed in (0, 1)]
    told = []
    with contextlib.ExitStack() as other:
        nets = where['work'] / 'quick/mice/0/shared'
        assert other.enter_context(claimed(nets, wait=False))
        assert open_shared(todo[0], where['work'], wait=False) is None

        def tell(line):
            told.append(line)
            other.close()  # The other process is done after the first run that could be made

        assert work_on(todo, **where, tell=tell) == 2
    assert [line.split(':')[0] for line in told] == [str(todo[1].path), str(todo[0].path)]


def test_the_search_s_winner_is_not_trained_again(where):
    main = mice('full')
    settings = search_specs(['full'], bench=MICE, preset=QUICK)
    winner = [setting for setting in settings if dict(setting.changes) == main.options]
    assert work_on(winner, **where, tell=print) == 1
    assert work_on([main], **where) == 0
    figures = [finished(run, where['results'])['test'] for run in (main, winner[0])]
    assert figures[0] == figures[1]


def test_checkpoints_of_other_options_are_not_taken(where, monkeypatch):
    "A method is trained anew when the search has found other options"
    ccssl = mice('ccssl')
    found = []
    for weight in (3.0, 100.0):
        monkeypatch.setitem(TUNED, 'ccssl', dict(weight=weight))
        assert finished(ccssl, where['results']) is None
        assert work_on([ccssl], **where) == 1
        found.append(finished(ccssl, where['results']))
    assert found[0]['options'] != found[1]['options']
    assert found[0]['diagnosis']['after'] != found[1]['diagnosis']['after']


def test_tuned_options_are_the_winners_on_validation_videos():
    found = search_results(RUNS)
    best = best_settings(found)
    chosen = {method: plain(options) for method, options in TUNED.items()}
    winners = {method: plain(options) for method, options in best.items()}
    assert chosen == winners, 'TUNED holds what the search found, and nothing else'
    tried = {method for method, settings in found.items() if search_is_complete(settings)}
    assert tried <= set(SEARCH)


def test_committed_runs_are_consistent():
    "Files lie where their contents say, are of the present options, and of no bench of the tests"
    for run in load_runs(RUNS):
        filed = spec(run['bench'], run['method'], run['seed'], run['changes'], run['preset'])
        there = finished(filed, RUNS)
        assert there is not None, f'{filed.path} is of other options than {filed.options}'
        assert run['bench'] != 'mice'
        assert run['preset'] != 'quick'
