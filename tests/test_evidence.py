"The machine behind the tables: killed lists go on, nothing is done twice, what is committed is consistent."

from pathlib import Path
import contextlib, pytest, torch
from geomrecon.paper.benches import SEARCH, TUNED, Bench, spec
from geomrecon.paper.search import best_settings, search_results, search_specs
from geomrecon.paper.training import claimed, open_stage
from geomrecon.paper.work import finished, work_on
from geomrecon.learn.presets import get_preset
from geomrecon.core.files import plain
from geomrecon.paper.records import load_runs

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


def test_a_killed_list_goes_on_where_it_was(tmp_path):
    todo = [spec(MICE, m, 0, {}, QUICK) for m in ('source', 'pseudo', 'full')]
    kw = dict(results=tmp_path / 'results', work=tmp_path / 'checkpoints')

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_on(todo, **kw, tell=stop)
    assert finished(todo[0], kw['results']) and finished(todo[1], kw['results']) is None
    told = []
    assert (
        work_on(todo, **kw, tell=told.append) == 2 and len(told) == 2 and work_on(todo, **kw) == 0
    )
    before = torch.load(
        tmp_path / 'checkpoints/quick/mice/0' / todo[2].room / 'run.ckpt', weights_only=True
    )['model']  # The file of figures lost, the checkpoint not
    (kw['results'] / todo[2].path).unlink()
    assert work_on(todo, **kw, tell=told.append) == 1
    after = torch.load(
        tmp_path / 'checkpoints/quick/mice/0' / todo[2].room / 'run.ckpt', weights_only=True
    )['model']
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_what_another_process_prepares_comes_last(tmp_path):
    todo = [spec(MICE, 'source', s, {}, QUICK) for s in (0, 1)]
    kw = dict(results=tmp_path / 'results', work=tmp_path / 'checkpoints')
    told = []
    with contextlib.ExitStack() as other:
        assert other.enter_context(claimed(kw['work'] / 'quick/mice/0/shared', wait=False))
        assert open_stage(todo[0], kw['work'], wait=False) is None

        def tell(line):
            told.append(line)
            other.close()  # The other process is done after the first run that could be made

        assert work_on(todo, **kw, tell=tell) == 2
    assert [t.split(':')[0] for t in told] == [str(todo[1].path), str(todo[0].path)]


def test_the_search_s_winner_is_not_trained_again(tmp_path):
    main = spec(MICE, 'full', 0, {}, QUICK)
    kw = dict(results=tmp_path / 'results', work=tmp_path / 'checkpoints')
    s = [
        q
        for q in search_specs(['full'], bench=MICE, preset=QUICK)
        if dict(q.changes) == main.options
    ]
    assert work_on(s, **kw, tell=print) == 1 and work_on([main], **kw) == 0
    assert finished(main, kw['results'])['test'] == finished(s[0], kw['results'])['test']


def test_checkpoints_of_other_options_are_not_taken(tmp_path, monkeypatch):
    "A method is trained anew when the search has found other options, and what was left half way with the old ones does not stop it"
    kw = dict(results=tmp_path / 'results', work=tmp_path / 'checkpoints')
    s = spec(MICE, 'ccssl', 0, {}, QUICK)
    figures = []
    for w in (3.0, 100.0):
        monkeypatch.setitem(TUNED, 'ccssl', dict(weight=w))
        assert finished(s, kw['results']) is None and work_on([s], **kw) == 1
        figures.append(finished(s, kw['results']))
    assert (
        figures[0]['options'] != figures[1]['options']
        and figures[0]['diagnosis']['after'] != figures[1]['diagnosis']['after']
    )


def test_tuned_options_are_the_winners_on_validation_videos():
    found = search_results(RUNS)
    best = best_settings(found)
    tried = {m for m, v in found.items() if all(p is not None for _, p in v)}
    assert {m: plain(o) for m, o in TUNED.items()} == {m: plain(o) for m, o in best.items()}, (
        'TUNED holds what the search found, and nothing else'
    )
    assert tried <= set(SEARCH)


def test_committed_runs_are_consistent():
    "Files lie where their contents say, are of the present options, and are of no bench of the tests"
    for r in load_runs(RUNS):
        s = spec(r['bench'], r['method'], r['seed'], r['changes'], r['preset'])
        assert finished(s, RUNS) is not None, f'{s.path} is of other options than {s.options}'
        assert r['bench'] != 'mice' and r['preset'] != 'quick'
