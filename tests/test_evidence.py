"The machine behind the tables: killed lists go on, nothing is done twice, what is committed is consistent."
from pathlib import Path
import pytest, torch
from geomrecon.evidence import SEARCH, TUNED, Bench, best_settings, finished, search_results, search_specs, spec, work_on
from geomrecon.learn.learner import get_preset
from geomrecon.predict import plain
from geomrecon.tables import load_runs, pck_from_counts

RUNS = Path(__file__).parents[1]/'results/tables/runs'
QUICK = get_preset('tiny-2d', name='quick', steps=2, epochs=1, adapt_epochs=2, bs=8, adapt_bs=4, adapt_bs_target=4, width=.25, warp_width=8, gen_width=8, gen_res=1, rec_attach=1.)
MICE = Bench('mice', 'mouse', n_videos=2, n_frames=16, n_test=16)

def test_a_killed_list_goes_on_where_it_was(tmp_path):
    todo = [spec(MICE, m, 0, {}, QUICK) for m in ('source', 'pseudo', 'full')]; kw = dict(results=tmp_path/'results', work=tmp_path/'checkpoints')
    def stop(line): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): work_on(todo, **kw, tell=stop)
    assert finished(todo[0], kw['results']) and finished(todo[1], kw['results']) is None
    told = []; assert work_on(todo, **kw, tell=told.append) == 2 and len(told) == 2 and work_on(todo, **kw) == 0
    before = torch.load(tmp_path/'checkpoints/quick/mice/0/full/run.ckpt', weights_only=True)['model'] # The file of figures lost, the checkpoint not
    (kw['results']/todo[2].path).unlink(); assert work_on(todo, **kw, tell=told.append) == 1
    after = torch.load(tmp_path/'checkpoints/quick/mice/0/full/run.ckpt', weights_only=True)['model']
    assert all(torch.equal(before[k], after[k]) for k in before)

def test_the_search_s_winner_is_not_trained_again(tmp_path):
    main = spec(MICE, 'full', 0, {}, QUICK); kw = dict(results=tmp_path/'results', work=tmp_path/'checkpoints')
    s = [q for q in search_specs(['full'], bench=MICE, preset=QUICK) if dict(q.changes) == main.options]
    assert work_on(s, **kw, tell=print) == 1; work_on([main], **kw)
    assert finished(main, kw['results'])['test'] == finished(s[0], kw['results'])['test'] and not (tmp_path/'checkpoints/quick/mice/0/full').exists()

def test_tuned_options_are_the_winners_on_validation_videos():
    found = search_results(RUNS); best = best_settings(found); tried = {m for m, v in found.items() if all(p is not None for _, p in v)}
    assert {m: plain(o) for m, o in TUNED.items()} == {m: plain(o) for m, o in best.items()}, 'TUNED holds what the search found, and nothing else'
    assert tried <= set(SEARCH)

def test_committed_runs_are_consistent():
    for r in load_runs(RUNS):
        for g in r['test']['pck']: assert abs(pck_from_counts(r, g)-r['test']['pck'][g]) < 1e-2, (r['bench'], r['method'], g)
        assert r['bench'] != 'mice' and r['preset'] != 'quick'
