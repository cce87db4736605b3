// What an error says of a connection that was not made or broke: the cause, and never the link.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import { createServer as createPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { DownloadError, download } from 'sluicegate/download';

import { bytesOf, hostile, serve } from './hostile.js';

const FILE = bytesOf(300_000);
const QUICK = { backoff: 0.001, attempts: 2 };

/** The error, after making sure that nothing in it shows the link's query. */
async function failure(link, options) {
  const error = await download(link, { ...QUICK, ...options }).then((file) => file.blob()).catch((fault) => fault);
  assert.ok(error instanceof DownloadError, `${error}`);
  assert.ok(!inspect(error).includes('sig=y'), inspect(error));
  return error;
}

async function deadLink() {
  const server = createPlain();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return `http://127.0.0.1:${port}/?url=x&sig=y`;
}

test('every code of this library is explained in clients/README.md', () => {
  const source = ['download', 'node', 'part'].map((name) => readFileSync(new URL(`../src/${name}.js`, import.meta.url), 'utf8')).join('');
  const codes = new Set([...source.matchAll(/(?:fault|Error)\(\s*'([a-z_]+)'/g), ...source.matchAll(/, '([a-z]+)'\)\.catch/g)].map(([, code]) => code));
  assert.ok(codes.size >= 8, [...codes].join());
  const table = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  for (const code of codes) assert.ok(table.includes(`| \`${code}\` |`), code);
});

test('a server that is not there', async () => {
  const { code, message } = await failure(await deadLink());
  assert.equal(code, 'unreachable');
  assert.equal(message, 'there is no answer from the server (ECONNREFUSED), and 2 attempts in a row brought nothing; try again later');
  assert.match((await failure(await deadLink(), { attempts: 1 })).message, /\(ECONNREFUSED\), and 1 attempt brought nothing;/);
});

test('a name that nobody has', async () => {
  const fetch = async () => { throw new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code: 'ENOTFOUND' }) }); };
  const { code, message } = await failure('http://none.invalid/?url=x&sig=y', { fetch });
  assert.deepEqual([code, /\(ENOTFOUND\)/.test(message)], ['unreachable', true]);
});

test('a transfer that breaks: the code says that it broke, the text where', async (t) => {
  const { link } = await hostile(t, serve(FILE, { etag: null, cut: 100_000 }));
  const { code, message } = await failure(link);
  assert.equal(code, 'incomplete');
  assert.match(message, /^the transfer (broke after|stopped at) \d+ bytes \((UND_ERR_SOCKET|ECONNRESET)\)/);
});

test('a server that goes away in between is unreachable', async (t) => {
  const { link } = await hostile(t, serve(FILE));
  let asked = 0;
  const fetch = async () => {
    asked += 1;
    if (asked > 1) throw new TypeError('fetch failed', { cause: { code: 'ECONNREFUSED' } });
    const body = new ReadableStream({ start: (controller) => { controller.enqueue(FILE.subarray(0, 9)); controller.close(); } });
    return new Response(body, { headers: { etag: '"v1"', 'x-sluicegate-length': '300000' } });
  };
  assert.equal((await failure(link, { fetch })).code, 'unreachable');
});

test('a text that quotes the link is not passed on', async () => {
  for (const [text, shown] of [
    ['GET http://127.0.0.1/?url=x&sig=y failed', 'the connection failed'], ['url=x&sig=y', 'the connection failed'],
    ['Failed\nto fetch', 'Failed to fetch'], ['', 'the connection failed'],
  ]) {
    const fetch = async () => { throw new TypeError(text); };
    const error = await download('http://127.0.0.1/?url=x&sig=y', { ...QUICK, fetch }).catch((fault) => fault);
    assert.ok(error.message.startsWith(`there is no answer from the server (${shown}), `), error.message);
  }
});

test('a certificate that nobody vouches for is told once', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sluicegate-tls-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(folder, name));
  const make = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost';
  execFileSync('openssl', [...make.split(' '), '-keyout', key, '-out', cert], { stdio: 'ignore' });
  let tried = 0;
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) });
  server.on('connection', () => { tried += 1; });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const { code, message } = await failure(`https://127.0.0.1:${server.address().port}/?url=x&sig=y`);
  assert.equal(code, 'untrusted_certificate');
  assert.equal(message, "the server's certificate is not trusted: DEPTH_ZERO_SELF_SIGNED_CERT");
  assert.equal(tried, 1);
});
