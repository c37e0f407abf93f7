#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""generate.py PAGE: prints a page of this reference, from a header's comments or from what gst-inspect-1.0 says.

CONTRIBUTING.md says how all pages are made anew, where gst-inspect-1.0 knows the elements.
The tests lib/api and gst/api fail when a page is not what this prints.
"""
import glob
import re
import subprocess
import sys

HEADERS = {'libzcbuf.md': 'lib/libzcbuf.h', 'libzcbuf-channel.md': 'lib/libzcbuf-channel.h', 'zcbuf.md': 'uapi/zcbuf.h'}
ELEMENTS = ['zcbufupload', 'zcbufsink', 'zcbufsrc']

# A comment, a macro, or a declaration with the body that it may have.
ITEM = re.compile(r'/\*.*?\*/|^#define [^\n]*|^[a-z][^;{]*(?:\{.*?^\})?[^;]*;', re.S | re.M)
NO_ITEM = re.compile(r'^#ifdef __cplusplus.*?#endif|^#(?:include|ifndef|endif)[^\n]*|^#define \w+_H$', re.S | re.M)
HANDLE = re.compile(r'struct \w+;')
# What is code inside of a sentence, and what Markdown would take for its own.
CODE = re.compile(r'"[^" ]*"|&(?:struct|enum) [\w.]*\w|\b(?:struct|enum) zcbuf\w+|@[a-z][\w.]*\w|\b\w+\(\d?\)|'
                  r'\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\*?(?:=\w+)?|-E[A-Z0-9]+\b|/(?:dev|proc|sys|run)/[\w/*@-]*|<[\w/-]+\.h>|[*<]')


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def text_of(comment):
    text = re.sub(r'^/\*+\s?|[ -]*\*/$', '', comment)
    return re.sub(r'^ \*[ \t]?', '', text, flags=re.M).strip('\n')


def entries(header):
    """What a header has, in its order: (heading, what it declares, what is said about it)."""
    source = NO_ITEM.sub('', read(header))
    found = [(None, [], '')]
    for match in ITEM.finditer(source):
        item, alone = match[0], source[:match.start()].endswith('\n\n')
        if item.startswith('/* ----'):
            found.append((f'## {text_of(item).strip("- ").capitalize()}', [], ''))
        elif item.startswith('/**'):
            name, text = re.match(r'(?:DOC: )?((?:\w+ )?\w+) - (.*)', text_of(item), re.S).groups()
            found.append((f'### {name}', [], text))
        elif item.startswith('/*'):
            following = re.match(r'\n#define (\w+)', source[match.end():])
            found.append((f'### {following[1]}' if following else None, [], text_of(item)))
        elif not HANDLE.fullmatch(item):
            if alone:
                found.append((f'### {re.search(r"zcbuf_[a-z_]+|ZCBUF_[A-Z_]+", item)[0]}', [], ''))
            found[-1][1].append(item)  # to the comment above, which may be about several
    return [entry for entry in found if any(entry) and not entry[2].startswith('SPDX')]


def places():
    """Under which heading a name is explained."""
    where = {}
    for page, header in HEADERS.items():
        for heading, declarations, _ in entries(header):
            target = f'{page}#{(heading or "").lstrip("# ").replace(" ", "-").lower()}'
            for declaration in declarations:
                pattern = r'^(?:#define |\t)(ZCBUF_\w+)|^((?:struct|enum) \w+) \{|^[^\t{]*\b(zcbuf_\w+)\)?\('
                for names in re.findall(pattern, declaration, re.M):
                    where.setdefault(''.join(names), target)
    return where


def sentence(text, page, where):
    """A line of Markdown: names are code, and lead to where they are explained."""
    def code(match):
        what = match[0]
        if what in ('*', '<'):
            return {'*': '\\*', '<': '&lt;'}[what]
        what = re.sub(r'^[&@]', '', what)
        target = where.get(re.sub(r'[.(=].*', '', what), '').removeprefix(page)
        return f'[`{what}`]({target})' if target else f'`{what}`'
    return CODE.sub(code, ' '.join(text.split()))


def paragraphs(text, page, where):
    """Indented text is code, or a list if it begins with a dash; '@name:' is a part of what is declared."""
    text = re.sub(r'^((?!  ).+\n)(?=  - )', r'\1\n', text, flags=re.M)
    text = re.sub(r'^(  [^ -].*\n)\n(?=  [^ -])', r'\1  \n', text, flags=re.M)
    text = re.sub(r'(?<=[.\n) ])\s*\bErrors:\s', '\n\nErrors: ', text)
    for block in re.split(r'\n{2,}', text.strip('\n')):
        if re.match(r'  - ', block):
            yield '\n'.join('- ' + sentence(point, page, where) for point in re.split(r'^  - ', block, flags=re.M)[1:])
        elif block.startswith('  '):
            yield '```\n' + re.sub(r'^  ', '', block, flags=re.M) + '\n```'
        elif re.match(r'@\w+:', block):
            parts = re.findall(r'^@(\w+):(.*?)(?=^@\w+:|\Z)', block, re.S | re.M)
            yield '\n'.join(f'- `{name}`: {sentence(what, page, where)}' for name, what in parts)
        elif block:
            yield sentence(block, page, where)


def header_page(page):
    header, where = HEADERS[page], places()
    yield f'<!-- docs/api/generate.py made this from {header} -->'
    yield f'# {header.split("/")[-1]}'
    for heading, declarations, text in entries(header):
        if heading:
            yield heading
        if declarations:
            yield '```c\n' + '\n'.join(declarations) + '\n```'
        if heading and text:
            first, rest = re.fullmatch(r'(.*?)\.?((?:\n[@\n].*)?)', text, re.S).groups()
            text = f'{first[0].upper()}{first[1:]}.\n{rest}'
        yield from paragraphs(text, page, where)


def element_page(page):
    own = {name for path in glob.glob('gst-plugin/*.c') for name in re.findall(r'g_param_spec_\w+\(\s*"([^"]+)"', read(path))}
    yield f'<!-- docs/api/generate.py made this from gst-inspect-1.0 and gst-plugin/gst{{{",".join(ELEMENTS)}}}.c -->'
    yield '# The elements of the GStreamer plugin zcbuf'
    for element in ELEMENTS:
        said = subprocess.run(['gst-inspect-1.0', '--no-colors', element], check=True, capture_output=True, text=True).stdout
        said = re.sub(r'\(string\)', '', said)
        yield f'## {element}'
        facts = dict(re.findall(r'^  (\S+(?: \S+)*) {2,}(.*)', said.split('Plugin Details')[0], re.M))
        yield f'{facts["Description"]}.'
        yield from section(read(f'gst-plugin/gst{element}.c'), element)
        yield '### Pads of ' + element
        yield '```\n' + pads(said) + '\n```'
        yield '### Properties of ' + element
        parent = re.search(r'\+----(\w+)\n +\+----GstZcbuf', said)[1]
        yield f'Beside those of `{parent}`:'
        yield '| property | | type, range, default | flags |\n|---|---|---|---|\n' + '\n'.join(properties(said, own))
        for title, text in re.findall(r'^(Element (?:Signals|Actions)):\n(.*?)(?=^\S|\Z)', said, re.S | re.M):
            yield f'### {title.split()[1]} of {element}'
            yield f'```\n{text.strip()}\n```'
        if 'Messages' in facts:
            yield f'### Messages of {element}'
            yield f'{facts["Messages"]}.'


def section(source, element):
    """The comment for GTK-Doc at the top of an element's file."""
    text = text_of('/*\n' + re.search(rf' \* SECTION:element-{element}\n.*?\*/', source, re.S)[0])
    text = re.sub(r'^(SECTION:|@\w+:|Since:).*\n?', '', text, flags=re.M).strip()
    text = re.sub(r'[#%](?:Gst\w+:)?([\w-]+)', lambda match: match[0] if match[0] == '##' else f'`{match[1]}`', text)
    text = re.sub(r'^## (.*)', rf'### \1 of {element}\n', text, flags=re.M)
    yield re.sub(r'\|\[\n(.*?)\n\]\| ?', r'```sh\n\1\n```\n', text, flags=re.S)


def pads(said):
    text = re.search(r'^Pad Templates:\n(.*?)\n\s*(?=^\S)', said, re.S | re.M)[1]
    return re.sub(r'\{ (\w+), [^}]*, (\w+) \}', lambda match: f'{{ {match[1]}, … {match[2]}: {match[0].count(",") + 1} formats }}',
                  re.sub(r'^  |\s+$', '', text, flags=re.M))


def properties(said, own):
    listed = said.split('Element Properties:')[1]
    for name, what, flags, kind, rest in re.findall(r'^  (\S+) +: (.*)\n +flags: (.*)\n +(.*?) *\n((?: {20,}.*\n)*)', listed, re.M):
        if name in own:
            values = re.findall(r'^ +\(\w+\): (\S+) +- (.*)', rest, re.M)
            yield f'| `{name}` | {what}{"".join(f"; `{value}`: {why}" for value, why in values)} | {kind} | {flags} |'


if __name__ == '__main__':
    wanted = sys.argv[1].split('/')[-1]
    print('\n\n'.join(header_page(wanted) if wanted in HEADERS else element_page(wanted)))
