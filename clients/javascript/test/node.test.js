// Downloads into files: a name appears only when its file is whole, and what is there already stays as it is.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { downloadToFile, safeName } from 'sluicegate/node';

import { sourceOf } from '../src/part.js';
import { bytesOf, hang, hostile, refuse, serve } from './hostile.js';

const FILE = bytesOf(300_000);
const OTHER = bytesOf(250_000, 2);
const QUICK = { backoff: 0.001, attempts: 1 };
const digest = (bytes) => `sha-256=:${createHash('sha256').update(bytes).digest('base64')}:`;
const named = (name) => ({ 'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name)}` });

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'sluicegate-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** Ends a download after some bytes, as a lost process would, and leaves its part. The server then goes on otherwise. */
async function leavePart(t, path, ...then) {
  const { link, asked } = await hostile(t, hang(FILE, 120_000), ...then);
  const controller = new AbortController();
  const onProgress = ({ received }) => received >= 60_000 && controller.abort();
  await assert.rejects(downloadToFile(link, path, { ...QUICK, signal: controller.signal, onProgress }), { name: 'AbortError' });
  const received = readFileSync(`${path}.part`).length;
  assert.ok(received > 0 && received < FILE.length, `${received}`);
  const note = JSON.parse(readFileSync(`${path}.part.json`, 'utf8'));
  assert.deepEqual(note, { source: sourceOf(link), tag: '"v1"', length: FILE.length });
  return { link, asked, received };
}

/** A part as an earlier process leaves it. */
function putPart(path, link, bytes) {
  writeFileSync(`${path}.part`, bytes);
  writeFileSync(`${path}.part.json`, JSON.stringify({ source: sourceOf(link), tag: '"v1"', length: null }));
}

test('a file under its own name, with its bytes, and nothing beside it', async (t) => {
  const at = folder(t);
  const { link } = await hostile(t, serve(FILE, { headers: { ...named('Отчёт.pdf'), 'repr-digest': digest(FILE) } }));
  const done = await downloadToFile(link, at, QUICK);
  assert.deepEqual(readdirSync(at), ['Отчёт.pdf']);
  assert.ok(readFileSync(join(at, 'Отчёт.pdf')).equals(FILE));
  assert.deepEqual([done.path, done.filename, done.total], [join(at, 'Отчёт.pdf'), 'Отчёт.pdf', FILE.length]);
  await downloadToFile(link, join(at, 'b.pdf'), QUICK);
  assert.ok(readFileSync(join(at, 'b.pdf')).equals(FILE));
});

test('a part is gone on with, also by a folder, and its first bytes count in the digest', async (t) => {
  const at = folder(t);
  for (const target of [join(at, 'a.bin'), at]) {
    const rest = serve(FILE, { headers: { ...named('a.bin'), 'repr-digest': digest(FILE) } });
    const { link, asked, received } = await leavePart(t, join(at, 'a.bin'), rest);
    const seen = [];
    await downloadToFile(link, target, { ...QUICK, onProgress: (progress) => seen.push(progress) });
    assert.equal(asked.at(-1).range, `bytes=${received - 1}-`);
    assert.ok(seen.some((progress) => progress.received > received));
    assert.deepEqual(readdirSync(at), ['a.bin']);
    assert.ok(readFileSync(join(at, 'a.bin')).equals(FILE));
    rmSync(join(at, 'a.bin'));
  }
});

test('a part that another process left is gone on with', async (t) => {
  const at = folder(t);
  const path = join(at, 'a.bin');
  // The first answer stays open after half of the file, until the process is gone.
  const { link, asked } = await hostile(t, hang(FILE, 150_000), serve(FILE));
  const code = `import { downloadToFile } from 'sluicegate/node';
    const onProgress = ({ received }) => received === 150000 && console.log('half');
    await downloadToFile(process.argv[1], process.argv[2], { onProgress });`;
  const where = { cwd: new URL('..', import.meta.url), stdio: ['ignore', 'pipe', 'inherit'] };
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, link, path], where);
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await downloadToFile(link, path, QUICK);
  assert.match(asked[1].range, /^bytes=\d+-$/);
  assert.ok(readFileSync(path).equals(FILE));
});

test('a part of another version is thrown away, never mixed', async (t) => {
  for (const [name, behaviour] of Object.entries({
    changed: serve(OTHER, { etag: '"v2"', headers: named('a.bin') }),
    'changed, whole': serve(OTHER, { etag: '"v2"', ranges: false, headers: named('a.bin') }),
    'no tag': serve(OTHER, { etag: null, headers: named('a.bin') }),
  })) {
    await t.test(name, async (sub) => {
      const at = folder(sub);
      for (const target of [join(at, 'a.bin'), at]) {
        const { link } = await leavePart(sub, join(at, 'a.bin'), behaviour);
        await downloadToFile(link, target, QUICK);
        assert.deepEqual(readdirSync(at), ['a.bin']);
        assert.ok(readFileSync(join(at, 'a.bin')).equals(OTHER));
        rmSync(join(at, 'a.bin'));
      }
    });
  }
});

test('a file that is shorter now is fetched anew', async (t) => {
  const at = folder(t);
  const shorter = refuse(416, 'range_not_satisfiable', { 'content-range': 'bytes */100' });
  const { link } = await leavePart(t, join(at, 'a.bin'), shorter, serve(OTHER));
  await downloadToFile(link, join(at, 'a.bin'), QUICK);
  assert.ok(readFileSync(join(at, 'a.bin')).equals(OTHER));
});

test('a part that is whole already only gets its name', async (t) => {
  const at = folder(t);
  const { link, asked } = await hostile(t, serve(FILE, { headers: { 'repr-digest': digest(FILE) } }));
  putPart(join(at, 'a.bin'), link, FILE);
  await downloadToFile(link, join(at, 'a.bin'), QUICK);
  assert.equal(asked[0].range, 'bytes=299999-');
  assert.ok(readFileSync(join(at, 'a.bin')).equals(FILE));
});

test('a part whose bytes are not those of the digest is thrown away', async (t) => {
  const at = folder(t);
  const { link } = await hostile(t, serve(FILE, { headers: { 'repr-digest': digest(FILE) } }));
  putPart(join(at, 'a.bin'), link, OTHER);
  await assert.rejects(downloadToFile(link, join(at, 'a.bin'), QUICK), { code: 'digest_mismatch' });
  assert.deepEqual(readdirSync(at), []);
});

test('a broken download leaves no file under its name, and no part that cannot be resumed', async (t) => {
  const at = folder(t);
  const cut = await hostile(t, serve(FILE, { etag: null, cut: 120_000 }));
  await assert.rejects(downloadToFile(cut.link, join(at, 'a.bin'), QUICK), { code: 'incomplete' });
  const wrong = await hostile(t, serve(FILE));
  const sha256 = '0'.repeat(64);
  await assert.rejects(downloadToFile(wrong.link, join(at, 'b.bin'), { ...QUICK, sha256 }), { code: 'digest_mismatch' });
  const refused = await hostile(t, refuse(403, 'link_expired'));
  await assert.rejects(downloadToFile(refused.link, join(at, 'c.bin'), QUICK), { code: 'link_expired' });
  assert.deepEqual(readdirSync(at), []);
});

test('what is there already stays, unless the caller says otherwise', async (t) => {
  const at = folder(t);
  writeFileSync(join(at, 'a.bin'), 'mine');
  const { link } = await hostile(t, serve(FILE, { headers: named('a.bin') }));
  for (const target of [at, join(at, 'a.bin')]) {
    await assert.rejects(downloadToFile(link, target, QUICK), { code: 'file_exists' });
    assert.equal(readFileSync(join(at, 'a.bin'), 'utf8'), 'mine');
  }
  // It may also appear while the download runs.
  const late = { ...QUICK, onProgress: () => writeFileSync(join(at, 'late.bin'), 'mine') };
  await assert.rejects(downloadToFile(link, join(at, 'late.bin'), late), { code: 'file_exists' });
  assert.equal(readFileSync(join(at, 'late.bin'), 'utf8'), 'mine');
  await downloadToFile(link, at, { ...QUICK, overwrite: true });
  assert.ok(readFileSync(join(at, 'a.bin')).equals(FILE));
});

test('a folder that is not there is told before anything is asked', async (t) => {
  const at = folder(t);
  writeFileSync(join(at, 'file'), '');
  const { link, asked } = await hostile(t, serve(FILE));
  for (const target of ['none/', 'none/a.bin', 'none/none/', 'file/', 'file/a.bin'].map((name) => `${at}/${name}`)) {
    const message = `target \`${target}\`: there is no such folder; make it first`;
    await assert.rejects(downloadToFile(link, target, QUICK), { name: 'TypeError', message });
  }
  assert.equal(asked.length, 0);
  assert.deepEqual(readdirSync(at), ['file']);
  assert.equal((await downloadToFile(link, `${at}/`, QUICK)).path, join(at, 'download'));
});

test('two downloads to one name never make a mixture', async (t) => {
  const at = folder(t);
  const path = join(at, 'a.bin');
  let release;
  const first = await hostile(t, (request, response) => {
    response.writeHead(200, { etag: '"v1"', 'content-length': FILE.length });
    response.write(FILE.subarray(0, 100_000));
    release = () => response.end(FILE.subarray(100_000));
  });
  const second = await hostile(t, serve(OTHER, { etag: '"v2"' }));
  let begun;
  const written = new Promise((resolve) => { begun = resolve; });
  const slow = downloadToFile(first.link, path, { ...QUICK, onProgress: () => begun() });
  await written;
  await downloadToFile(second.link, path, QUICK);
  release();
  await assert.rejects(slow);
  assert.ok(readFileSync(path).equals(OTHER));
});

test('a download whose part another one took over does not give that one its name', async (t) => {
  const at = folder(t);
  const path = join(at, 'a.bin');
  const halves = (bytes, etag) => {
    const gate = {};
    gate.behaviour = (request, response) => {
      response.writeHead(200, { etag, 'content-length': bytes.length });
      response.write(bytes.subarray(0, 100_000));
      gate.release = () => response.end(bytes.subarray(100_000));
    };
    gate.begun = new Promise((resolve) => { gate.onProgress = resolve; });
    return gate;
  };
  const [first, second] = [halves(FILE, '"v1"'), halves(OTHER, '"v2"')];
  const begin = async (gate) => {
    const { link } = await hostile(t, gate.behaviour);
    const done = downloadToFile(link, path, { ...QUICK, onProgress: gate.onProgress });
    await gate.begun;
    return { done };
  };
  const slow = await begin(first);
  const other = await begin(second);
  first.release();
  await assert.rejects(slow.done, { code: 'busy', message: /another download is writing/ });
  assert.ok(!readdirSync(at).includes('a.bin'));
  second.release();
  await other.done;
  assert.ok(readFileSync(path).equals(OTHER));
});

test('names from outside are made safe', () => {
  for (const [given, safe] of [
    ['report.pdf', 'report.pdf'], ['../../etc/passwd', 'passwd'], ['..\\..\\boot.ini', 'boot.ini'], ['/etc/', 'etc'],
    ['.bashrc', 'bashrc'], ['..', 'download'], ['', 'download'], [undefined, 'download'], ['a:b|c?.txt', 'a_b_c_.txt'],
    ['a\u202efdp.exe', 'a_fdp.exe'], ['a\u0000b', 'a_b'], ['CON.txt', '_CON.txt'], ['lpt1', '_lpt1'], ['~x', '_x'], ['a. ', 'a'],
    ['Отчёт 🎉.pdf', 'Отчёт 🎉.pdf'], ['a\ud83d', 'a\ufffd'],
    ['a.part', 'a.part_'], ['a.PART', 'a.PART_'], ['a.part.json', 'a.part.json_'], ['a.Part.etag ', 'a.Part.etag_'], ['a.new', 'a.new_'],
    ['part', 'part'], ['a.parts', 'a.parts'],
  ]) assert.equal(safeName(given), safe, given);
  const long = safeName(`${'я'.repeat(300)}.pdf`);
  const cut = safeName(`${'a'.repeat(239)}.part${'b'.repeat(99)}`);
  assert.ok(cut.endsWith('.part_') && Buffer.byteLength(`${cut}.part.json`) <= 255, cut);
  assert.ok(Buffer.byteLength(long) <= 245 && long.endsWith('я.pdf'), long);
});

test('what downloadToFile sets itself is not taken', async () => {
  await assert.rejects(downloadToFile('http://127.0.0.1/', 'x', { from: {} }), TypeError);
});
