// The library in a page in Chromium: the vectors, and a download that breaks on the way.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { chromium } from '../../../tests/browser/chromium.mjs';
import { bytesOf, gzipped, serve } from './hostile.js';

const PACKAGE = new URL('../', import.meta.url);
const VECTORS = new URL('../../../tests/vectors/', import.meta.url);
const FILE = bytesOf(3_000_000);
const BROKEN = serve(FILE, { cut: 1_000_000 });
const REPR_DIGEST = `sha-256=:${createHash('sha256').update(FILE).digest('base64')}:`;

/** Serves the package, the vectors, and files that break. */
async function site(t) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (pathname === '/') return response.setHeader('content-type', 'text/html').end('<!doctype html><title>test</title>');
    response.setHeader('repr-digest', REPR_DIGEST);
    if (pathname === '/broken') return BROKEN(request, response);
    if (pathname === '/gzip') return gzipped(FILE)(request, response);
    response.removeHeader('repr-digest');
    const isCode = /^\/(src|test)\/[a-z.]+\.js$/.test(pathname);
    const inside = isCode ? new URL(`.${pathname}`, PACKAGE) : new URL(pathname.slice(1), VECTORS);
    if (!existsSync(inside)) return response.writeHead(404).end(); // the page's icon
    response.setHeader('content-type', pathname.endsWith('.js') ? 'text/javascript' : 'application/json');
    return response.end(readFileSync(inside));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return `http://127.0.0.1:${server.address().port}`;
}

test('in a page in Chromium', async (t) => {
  const origin = await site(t);
  const page = await chromium(t).open(`${origin}/`);

  await t.test('the vectors hold', async () => {
    const faults = await page.evaluate(`(async () => {
      const { Signer, MintError } = await import('/src/index.js');
      const { secretsOf, mintFaults, refuseFaults, expiryFaults } = await import('/test/vectors.js');
      const [keys, mint, refuse, expiry] = await Promise.all(['keys', 'mint', 'refuse', 'expiry'].map(
        (name) => fetch('/' + name + '.json').then((answer) => answer.json())));
      const secrets = secretsOf(keys);
      return { count: mint.vectors.length, faults: [...await mintFaults(Signer, secrets, mint),
        ...await refuseFaults(Signer, MintError, secrets, refuse), ...await expiryFaults(Signer, secrets, expiry)] };
    })()`);
    assert.ok(faults.count > 40);
    assert.deepEqual(faults.faults, []);
  });

  await t.test('a download that breaks is resumed, its digest is checked', async () => {
    const got = await page.evaluate(`(async () => {
      const { download } = await import('/src/download.js');
      const seen = [];
      const file = await download('/broken', { backoff: 0.001, attempts: 50, onProgress: ({ received }) => seen.push(received) });
      const bytes = await (await file.blob()).arrayBuffer();
      const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
      return { last: seen.at(-1), total: file.total, digest: 'sha-256=:' + btoa(String.fromCharCode(...digest)) + ':' };
    })()`);
    assert.deepEqual(got, { last: FILE.length, total: FILE.length, digest: REPR_DIGEST });
  });

  await t.test('a coded body is whole', async () => {
    const length = await page.evaluate(`import('/src/download.js').then(({ download }) => download('/gzip'))
      .then((file) => file.blob()).then((blob) => blob.size)`);
    assert.equal(length, FILE.length);
  });
});
