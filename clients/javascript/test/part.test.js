// What is beside a file on its way: whose it is, of what it is a part, and that the Python library understands it.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  linkSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';

import { DownloadError, downloadToFile } from 'sluicegate/node';

import { sourceOf } from '../src/part.js';
import { bytesOf, gzipped, hang, hostile, raw, serve } from './hostile.js';

const FILE = bytesOf(300_000);
const OTHER = bytesOf(300_000, 2);
const QUICK = { backoff: 0.001, attempts: 1 };
const named = (name) => ({ 'content-disposition': `attachment; filename="${name}"` });
const valid = (link) => JSON.stringify({ source: sourceOf(link), tag: '"v1"', length: FILE.length });
const PYTHON = { ...process.env, PYTHONPATH: new URL('../../python/src', import.meta.url).pathname };
const noPython = spawnSync('python3', ['--version']).status !== 0 && 'there is no python3';
const python = (code, ...words) => promisify(execFile)('python3', ['-c', code, ...words], { env: PYTHON });

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'sluicegate-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** Leaves a part of FILE, from a server that sends a piece of it and is then silent. */
async function leave(link, target) {
  const controller = new AbortController();
  const onProgress = ({ received }) => received >= 60_000 && controller.abort();
  await assert.rejects(downloadToFile(link, target, { ...QUICK, signal: controller.signal, onProgress }), { name: 'AbortError' });
}

test('two files with one name and one tag are never joined', async (t) => {
  const headers = named('a.bin');
  const partial = (request, response) => {
    response.writeHead(200, { etag: '"v1"', 'content-length': FILE.length, ...headers });
    response.write(FILE.subarray(0, 120_000));
  };
  for (const other of [
    (link) => link.replace('url=x', 'url=y'),
    async () => (await hostile(t, serve(OTHER, { headers }))).link,
  ]) {
    const at = folder(t);
    const first = await hostile(t, partial, serve(OTHER, { headers }));
    await leave(first.link, at);
    assert.deepEqual(readdirSync(at).sort(), ['a.bin.part', 'a.bin.part.json']);
    assert.ok(!readFileSync(join(at, 'a.bin.part.json'), 'utf8').includes('sig'));
    await downloadToFile(await other(first.link), at, QUICK);
    assert.ok(readFileSync(join(at, 'a.bin')).equals(OTHER));
    assert.deepEqual(readdirSync(at), ['a.bin']);
  }
});

test('the note of a process that ended over it is removed in time, and no other one', async (t) => {
  const draft = `.sluicegate-${createHash('sha256').update('a.bin.part.json').digest('hex').slice(0, 32)}`;
  for (const [age, rest] of [[120, []], [0, [draft]]]) {
    const at = folder(t);
    writeFileSync(join(at, draft), 'half a n');
    const then = new Date(Date.now() - age * 1000);
    utimesSync(join(at, draft), then, then);
    const { link } = await hostile(t, serve(FILE));
    await downloadToFile(link, join(at, 'a.bin'), QUICK);
    assert.ok(readFileSync(join(at, 'a.bin')).equals(FILE));
    assert.deepEqual(readdirSync(at).sort(), [...rest, 'a.bin']);
  }
});

test('another length under the same tag begins anew', async (t) => {
  const at = folder(t);
  const { link } = await hostile(t, hang(FILE, 120_000), serve(OTHER.subarray(0, 290_000)));
  await leave(link, join(at, 'a.bin'));
  await downloadToFile(link, join(at, 'a.bin'), QUICK);
  assert.ok(readFileSync(join(at, 'a.bin')).equals(OTHER.subarray(0, 290_000)));
});

const LINKS = ['http://h:80/?url=x&sig=y', 'http://h:80/p?a=1&url=&url=http%3A//a/b+c%20%C3%A9%FF&url=z#f', 'HTTP://User@H/?url=%26x',
  'https://h/?token=abc', 'https://h', 'https://h/#?url=x', 'https://h?url=x'];

test('a source: the link made anew has the same, another file another', () => {
  const [first] = LINKS;
  assert.equal(sourceOf(first), sourceOf('http://h:80/?exp=5&url=x&sig=z'));
  assert.equal(new Set(LINKS.map((link) => sourceOf(link))).size, LINKS.length);
  assert.match(sourceOf(first), /^[0-9a-f]{64}$/);
  const token = { 'x-sluicegate-token': 't' };
  assert.notEqual(sourceOf('https://h/', token), sourceOf('https://h/', { 'x-sluicegate-token': 'u' }));
  assert.equal(sourceOf(first, token), sourceOf(first));
});

test('a source is the same in Python', { skip: noPython }, () => {
  const code = 'import sys; from sluicegate._part import source_of; print(*map(source_of, sys.argv[1:]))';
  const theirs = execFileSync('python3', ['-c', code, ...LINKS], { env: PYTHON, encoding: 'utf8' }).trim().split(' ');
  assert.deepEqual(theirs, LINKS.map((link) => sourceOf(link)));
});

test('Python goes on with a part of JavaScript', { skip: noPython }, async (t) => {
  for (const name of ['a.bin', `${'n'.repeat(250)}.bin`]) {
    const path = join(folder(t), name);
    const { link, asked } = await hostile(t, hang(FILE, 120_000), serve(FILE));
    await leave(link, path);
    await python('import sys, sluicegate; print(sluicegate.download(sys.argv[1], sys.argv[2]))', link, path);
    assert.match(asked[1].range, /^bytes=[1-9]\d+-$/);
    assert.ok(readFileSync(path).equals(FILE));
    assert.deepEqual(readdirSync(join(path, '..')), [name]);
  }
});

test('JavaScript goes on with a part of Python', { skip: noPython }, async (t) => {
  const at = folder(t);
  const path = join(at, 'a.bin');
  const { link, asked } = await hostile(t, hang(FILE, 120_000), serve(FILE));
  const code = `import os, sys, sluicegate
def enough(done, total):
    if done >= 60_000: sys.exit()
sluicegate.download(sys.argv[1], sys.argv[2], progress=enough)`;
  await python(code, link, path);
  assert.deepEqual(readdirSync(at).sort(), ['a.bin.part', 'a.bin.part.json']);
  await downloadToFile(link, path, QUICK);
  assert.match(asked[1].range, /^bytes=[1-9]\d+-$/);
  assert.ok(readFileSync(path).equals(FILE));
  assert.deepEqual(readdirSync(at), ['a.bin']);
});

const FOREIGN = {
  'a part without a note': (at) => writeFileSync(join(at, 'a.bin.part'), 'mine'),
  'a part with a note of others': (at) => {
    writeFileSync(join(at, 'a.bin.part'), 'mine');
    writeFileSync(join(at, 'a.bin.part.json'), '{"source":"x","tag":"y","length":1}');
  },
  'a note of others': (at) => writeFileSync(join(at, 'a.bin.part.json'), '["mine"]'),
  'an endless note': (at) => writeFileSync(join(at, 'a.bin.part.json'), '['.repeat(100_000)),
  'a symlink as part': (at, link) => {
    symlinkSync('secret', join(at, 'a.bin.part'));
    writeFileSync(join(at, 'a.bin.part.json'), valid(link));
  },
  'a hard link as part': (at, link) => {
    linkSync(join(at, 'secret'), join(at, 'a.bin.part'));
    writeFileSync(join(at, 'a.bin.part.json'), valid(link));
  },
  'a FIFO as part': (at, link) => {
    execFileSync('mkfifo', [join(at, 'a.bin.part')]);
    writeFileSync(join(at, 'a.bin.part.json'), valid(link));
  },
  'a folder as part': (at, link) => {
    mkdirSync(join(at, 'a.bin.part'));
    writeFileSync(join(at, 'a.bin.part.json'), valid(link));
  },
  'a symlink as note': (at, link) => {
    writeFileSync(join(at, 'note'), valid(link));
    symlinkSync('note', join(at, 'a.bin.part.json'));
  },
  'a dangling symlink as note': (at) => symlinkSync('none', join(at, 'a.bin.part.json')),
  'a hard link as note': (at, link) => {
    writeFileSync(join(at, 'note'), valid(link));
    linkSync(join(at, 'note'), join(at, 'a.bin.part.json'));
  },
  'a FIFO as note': (at) => execFileSync('mkfifo', [join(at, 'a.bin.part.json')]),
};
const listed = (at) => readdirSync(at).map((name) => {
  const info = lstatSync(join(at, name));
  return [name, info.ino, info.nlink, info.isFile() ? readFileSync(join(at, name), 'latin1') : ''];
});

for (const [name, put] of Object.entries(FOREIGN)) {
  test(`not ours, refused and left alone: ${name}`, { skip: process.platform === 'win32' }, async (t) => {
    const at = folder(t);
    const { link } = await hostile(t, serve(FILE, { headers: named('a.bin') }));
    writeFileSync(join(at, 'secret'), 'mine');
    put(at, link);
    const before = listed(at);
    const message = /^`.*\/a\.bin\.part(\.json)?` is there, and is no unfinished download of this library; move it away, or /;
    for (const target of [at, join(at, 'a.bin')]) {
      await assert.rejects(downloadToFile(link, target, { ...QUICK, overwrite: true }), { code: 'file_exists', message });
    }
    assert.deepEqual(listed(at), before);
  });
}

const asRoot = process.geteuid?.() === 0 ? false : 'only root can give a file away';
test('not ours, refused and left alone: a file of somebody else', { skip: asRoot }, async (t) => {
  for (const name of ['a.bin.part', 'a.bin.part.json']) {
    const at = folder(t);
    const { link, asked } = await hostile(t, serve(FILE));
    writeFileSync(join(at, 'a.bin.part'), FILE.subarray(0, 1000));
    writeFileSync(join(at, 'a.bin.part.json'), valid(link));
    execFileSync('chown', ['12345', join(at, name)]);
    const before = listed(at);
    await assert.rejects(downloadToFile(link, join(at, 'a.bin'), QUICK), { code: 'file_exists' });
    assert.deepEqual(listed(at), before);
    assert.equal(asked.length, 0);
  }
});

test('a process that ended between the two names of a whole file is tidied up after', async (t) => {
  const at = folder(t);
  const path = join(at, 'a.bin');
  const { link } = await hostile(t, serve(OTHER));
  writeFileSync(path, FILE);
  linkSync(path, `${path}.part`);
  writeFileSync(`${path}.part.json`, valid(link));
  await downloadToFile(link, path, { ...QUICK, overwrite: true });
  assert.ok(readFileSync(path).equals(OTHER));
  assert.deepEqual(readdirSync(at), ['a.bin']);
});

test('a part of a file without a tag is ours, and begun anew', async (t) => {
  const at = folder(t);
  const { link, asked } = await hostile(t, serve(FILE));
  writeFileSync(join(at, 'a.bin.part'), 'lost');
  writeFileSync(join(at, 'a.bin.part.json'), '{"source": "", "tag": null, "length": null}');
  await downloadToFile(link, join(at, 'a.bin'), QUICK);
  assert.ok(readFileSync(join(at, 'a.bin')).equals(FILE));
  assert.deepEqual([asked[0].range, readdirSync(at)], [undefined, ['a.bin']]);
});

test('a server cannot plant a part or a note', async (t) => {
  const at = folder(t);
  for (const name of ['a.bin.part', 'a.bin.part.json', 'A.BIN.PART', 'a.bin.part.json.new']) {
    const { link } = await hostile(t, serve(FILE, { headers: named(name) }));
    assert.equal((await downloadToFile(link, at, QUICK)).path, join(at, `${name}_`));
  }
});

const CHUNK = '5\r\nhello\r\n';
const WHOLE = `${CHUNK}0\r\n\r\n`;
const HELLO = createHash('sha256').update('hello').digest();

test('without length and digest only a chunked body of a kept connection can be whole', async (t) => {
  const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n';
  for (const [name, answer] of Object.entries({
    'closed, cut': `${chunked}Connection: close\r\n\r\n${CHUNK}`,
    'closed, whole': `${chunked}Connection: close\r\n\r\n${WHOLE}`,
    'closed, in other words': `${chunked}Connection: x, Close\r\n\r\n${CHUNK}`,
    'closed, as a proxy says': `${chunked}Proxy-Connection: close\r\n\r\n${CHUNK}`,
    'kept, cut': `${chunked}\r\n${CHUNK}`,
    'kept, cut in a chunk': `${chunked}Connection: keep-alive\r\n\r\n5\r\nhel`,
    'to the end of the connection': 'HTTP/1.1 200 OK\r\n\r\nhello',
    'HTTP/1.0': 'HTTP/1.0 200 OK\r\n\r\nhello',
    'coded on the way': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhello',
  })) {
    const at = folder(t);
    const { link } = await raw(t, answer);
    await assert.rejects(downloadToFile(link, at, QUICK), { code: 'incomplete' }, name);
    assert.deepEqual(readdirSync(at), [], name);
  }
  for (const answer of [`${chunked}\r\n${WHOLE}`, `${chunked}Connection: Keep-Alive\r\n\r\n${WHOLE}`]) {
    const { path } = await downloadToFile((await raw(t, answer)).link, folder(t), QUICK);
    assert.equal(readFileSync(path, 'utf8'), 'hello');
  }
});

test('where a refusal asks for a sha256, one helps; a digest of the server does too', async (t) => {
  const digest = `Repr-Digest: sha-256=:${HELLO.toString('base64')}:\r\n`;
  for (const [answer, sha256, code] of [
    ['HTTP/1.1 200 OK\r\n\r\nhello', undefined, 'incomplete'],
    ['HTTP/1.1 200 OK\r\n\r\nhello', HELLO.toString('hex')],
    ['HTTP/1.1 200 OK\r\n\r\nhell', HELLO.toString('hex'), 'digest_mismatch'],
    [`HTTP/1.1 200 OK\r\n${digest}\r\nhello`],
    [`HTTP/1.1 200 OK\r\n${digest}\r\nhell`, undefined, 'digest_mismatch'],
  ]) {
    const { link } = await raw(t, answer);
    const onProgress = () => assert.notEqual(code, 'incomplete', 'it is refused before the first byte');
    const done = downloadToFile(link, folder(t), { ...QUICK, sha256, onProgress });
    if (code) await assert.rejects(done, { code, ...(code === 'incomplete' && { message: /; give its `sha256`$/ }) });
    else assert.equal(readFileSync((await done).path, 'utf8'), 'hello');
  }
});

test('a later answer that proves less than the first is no proof', async (t) => {
  const head = 'HTTP/1.1 200 OK\r\nETag: "v1"\r\n';
  const { link } = await raw(t, `${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhel`, `${head}\r\nhello wor`);
  await assert.rejects(downloadToFile(link, folder(t), { ...QUICK, attempts: 20 }), { code: 'incomplete' });
});

test('a coding is not asked for, and refused unless a sha256 decides', async (t) => {
  const at = folder(t);
  const { link, asked } = await hostile(t, gzipped(FILE));
  const message = 'the file comes coded as `gzip`, which was not asked for; have it stored without coding, or give its `sha256`';
  await assert.rejects(downloadToFile(link, at, QUICK), { code: 'unexpected_answer', message });
  assert.equal(asked[0]['accept-encoding'], 'identity');
  assert.deepEqual(readdirSync(at), []);
  const sha256 = createHash('sha256').update(FILE).digest('hex');
  assert.ok(readFileSync((await downloadToFile(link, at, { ...QUICK, sha256 })).path).equals(FILE));
  // Cut short with a right Content-Length, as it was stored. No part of it is kept.
  const body = gzipSync(FILE).subarray(0, 9000);
  const cut = await hostile(t, (request, response) => response.writeHead(200, { etag: '"v1"', 'content-encoding': 'gzip' }).end(body));
  await assert.rejects(downloadToFile(cut.link, join(at, 'b'), { ...QUICK, sha256 }), { code: 'digest_mismatch' });
  assert.deepEqual(readdirSync(at), ['download']);
});

test('no empty part is left', async (t) => {
  const at = folder(t);
  const { link } = await hostile(t, hang(FILE, 0));
  await assert.rejects(downloadToFile(link, join(at, 'a'), { ...QUICK, idleTimeout: 0.2 }), (error) => error instanceof DownloadError);
  assert.deepEqual(readdirSync(at), []);
});
