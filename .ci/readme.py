"Renders nbs/index.ipynb to README.md with nbdev's own reading of a notebook; unlike `nbdev_readme` it needs no quarto."

import base64, os, re
from pathlib import Path
from nbdev.config import get_config
from nbdev.process import NBProcessor

cfg = get_config()
root, src = cfg.config_path, cfg.nbs_path / cfg.readme_nb
figs = root / f'{src.stem}_files'
images = {'image/png': 'png', 'image/jpeg': 'jpg', 'image/gif': 'gif'}


def text(x):
    return x if isinstance(x, str) else ''.join(x)


def settled(s):
    "What a terminal shows in the end where progress bars wrote over themselves"

    def line(l):
        out = ''
        for part in l.split('\r'):
            out = part + out[len(part) :]
        return re.sub('█ *$', '', out).rstrip()

    return '\n'.join(map(line, s.split('\n')))


def indent(s):
    return '\n'.join(
        f'    {l}'.rstrip() for l in re.sub(r'\x1b\[[\d;]*m', '', s).strip('\n').split('\n')
    )


def off(cell, name):
    return cell.directives_.get(f'{name}:', [''])[0].lower() == 'false'


def relink(s):
    "Links that are relative to the notebook, made relative to the README; code is left alone"

    def one(m):
        path = m[2]
        if re.match(r'[a-z]+:|#|/', path):
            return m[0]
        file, hash_, frag = path.partition('#')
        return (
            m[1]
            + os.path.relpath(src.parent / file, root).replace(os.sep, '/')
            + hash_
            + frag
            + m[3]
        )

    parts = re.split(r'(?ms)(^```.*?^```$|`[^`\n]+`)', s)
    return ''.join(
        p if i % 2 else re.sub(r'(\]\(|(?:src|href)=")([^)"\s]+)([)"])', one, p)
        for i, p in enumerate(parts)
    )


def output(o, name):
    "One output as markdown: a picture as a file, text indented, errors and html not at all"
    if o.output_type == 'stream':
        return indent(settled(text(o.text))) if o.name == 'stdout' else ''
    data = o.get('data', {})
    if 'text/markdown' in data:
        return relink(text(data['text/markdown']))
    for mime, ext in images.items():
        if mime in data:
            figs.mkdir(exist_ok=True)
            (figs / f'{name}.{ext}').write_bytes(base64.b64decode(text(data[mime])))
            return f'![]({figs.name}/{name}.{ext})'
    return indent(text(data['text/plain'])) if 'text/plain' in data else ''


def render(nb):
    "All cells of `nb` as markdown, hidden ones left out"
    yield f'<!-- Made from {src.relative_to(root).as_posix()} by .ci/readme.py: edit the notebook, then `make prepare`. -->'
    for i, c in enumerate(nb.cells):
        d = c.directives_ if c.cell_type == 'code' else {}
        if 'hide' in d or (d and off(c, 'include')):
            continue
        if c.cell_type == 'markdown':
            yield relink(c.source)
        elif c.cell_type == 'code':
            code = re.sub(r'(?m)^#\s*\|.*\n?', '', c.source).strip()
            if code and not ('hide_input' in d or off(c, 'echo')):
                yield f'```python\n{code}\n```'
            if not ('hide_output' in d or off(c, 'output')):
                yield from (output(o, f'cell-{i}-{j}') for j, o in enumerate(c.get('outputs', [])))


nb = NBProcessor(src).nb
if figs.exists():
    [f.unlink() for f in figs.iterdir()]
(root / 'README.md').write_text(
    '\n\n'.join(s.strip('\n') for s in render(nb) if s.strip()) + '\n', encoding='utf-8'
)
