// Downloads against a hostile server: whole and equal byte for byte, or an error. Nothing in between.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { DownloadError, download } from 'sluicegate/download';

import { bytesOf, gzipped, hang, hostile, lengthened, refuse, serve, shortened } from './hostile.js';

const FILE = bytesOf(300_000);
const OTHER = bytesOf(300_000, 2);
const SHA256 = createHash('sha256').update(FILE).digest('hex');
const REPR_DIGEST = `sha-256=:${createHash('sha256').update(FILE).digest('base64')}:`;
const QUICK = { backoff: 0.001, attempts: 3 };
// A connection that breaks may take bytes with it that nobody has read, so an attempt may bring nothing.
const PATIENT = { attempts: 50 };
const hash = () => createHash('sha256');

/** Reads a stream to its end: what came, and the error that it ended in. */
async function drain(stream) {
  const chunks = [];
  try {
    for await (const chunk of stream) chunks.push(chunk);
  } catch (error) {
    return { bytes: Buffer.concat(chunks), error };
  }
  return { bytes: Buffer.concat(chunks) };
}

async function fetched(link, options) {
  const file = await download(link, { ...QUICK, ...options });
  return { file, ...(await drain(file.stream)) };
}

const same = (bytes, expected = FILE) => assert.ok(Buffer.compare(bytes, expected) === 0, `${bytes.length} bytes`);

/** An error, and nothing but the file's own beginning was handed out. */
function broken({ bytes, error }, code, expected = FILE) {
  assert.ok(error instanceof DownloadError, `${error}`);
  assert.equal(error.code, code);
  assert.match(error.message, /^[a-z].*[^.]$/s);
  assert.ok(bytes.length < expected.length || code === 'digest_mismatch', `${bytes.length} bytes`);
  same(bytes, expected.subarray(0, bytes.length));
}

test('a whole file, with name, type, total and progress', async (t) => {
  const disposition = `attachment; filename="fallback.pdf"; filename*=UTF-8''%D0%9E%D1%82%D1%87%D1%91%D1%82%20%22a%22.pdf`;
  const headers = { 'content-type': 'application/pdf', 'content-disposition': disposition, 'repr-digest': REPR_DIGEST };
  const { link, asked } = await hostile(t, serve(FILE, { headers }));
  const seen = [];
  const { file, bytes, error } = await fetched(link, { onProgress: (progress) => seen.push(progress), hash });
  assert.equal(error, undefined);
  same(bytes);
  const { filename, type, total, etag, digest } = file;
  assert.deepEqual([filename, type, total, etag, digest], ['Отчёт "a".pdf', 'application/pdf', FILE.length, '"v1"', SHA256]);
  assert.deepEqual(seen.at(-1), { received: FILE.length, total: FILE.length });
  assert.equal(asked.length, 1);
  assert.equal(asked[0].range, undefined);
});

test('an empty file', async (t) => {
  const { link } = await hostile(t, serve(Buffer.alloc(0)));
  const { bytes, error, file } = await fetched(link);
  assert.deepEqual([bytes.length, error, file.total], [0, undefined, 0]);
});

test('names: quoted, token, broken escape, none', async (t) => {
  for (const [value, name] of [
    ['attachment; filename="a \\"b\\" c.txt"', 'a "b" c.txt'],
    ['attachment; filename=plain.txt', 'plain.txt'],
    ["inline; filename*=UTF-8'en'%ff; filename=x.txt", 'x.txt'],
    ['attachment; filename="x; filename*=UTF-8\'\'evil"', "x; filename*=UTF-8''evil"],
    ['attachment', undefined],
  ]) {
    const { link } = await hostile(t, serve(FILE, { headers: { 'content-disposition': value } }));
    const file = await download(link, QUICK);
    await file.stream.cancel();
    assert.equal(file.filename, name);
  }
});

test('a broken transfer is resumed where it broke, again and again', async (t) => {
  const { link, asked } = await hostile(t, serve(FILE, { cut: 70_000 }));
  const { bytes, error } = await fetched(link, { hash, sha256: SHA256, ...PATIENT });
  assert.equal(error, undefined);
  same(bytes);
  assert.ok(asked.length >= 5);
  const resumed = asked.filter((headers) => headers.range);
  assert.ok(resumed.length >= 3);
  for (const headers of resumed) {
    assert.match(headers.range, /^bytes=[1-9][0-9]*-$/);
    assert.equal(headers['if-range'], '"v1"');
  }
});

test('where a range is answered with the whole file, what is here is passed over', async (t) => {
  const whole = serve(FILE, { ranges: false, chunked: true });
  const parts = [100_000, 50_000, 200_000].map((length) => shortened(FILE, length));
  const { link, asked } = await hostile(t, ...parts, whole);
  const { bytes, error } = await fetched(link);
  assert.equal(error, undefined);
  same(bytes);
  assert.deepEqual(asked.map((headers) => headers.range), [undefined, 'bytes=100000-', 'bytes=100000-', 'bytes=200000-']);
});

test('a body that ends early in an orderly way is no whole file', async (t) => {
  const good = await hostile(t, shortened(FILE, 100_000), serve(FILE));
  const { bytes, error } = await fetched(good.link);
  assert.equal(error, undefined);
  same(bytes);
  assert.equal(good.asked[1].range, 'bytes=100000-');
  const bad = await hostile(t, shortened(FILE, 100_000));
  broken(await fetched(bad.link), 'incomplete');
  assert.equal(bad.asked.length, 3);
});

test('a body that goes on past its length is an error', async (t) => {
  const { link } = await hostile(t, lengthened(FILE, 299_999));
  broken(await fetched(link), 'length_mismatch');
});

test('a file that changes meanwhile is an error, never a mixture', async (t) => {
  for (const [name, second] of Object.entries({
    'another tag, whole': serve(OTHER, { etag: '"v2"' }),
    'no tag': serve(OTHER, { etag: null }),
    'a weak tag': serve(OTHER, { etag: 'W/"v1"' }),
    'another length': serve(OTHER.subarray(0, 200_000)),
    'another length, whole': serve(OTHER.subarray(0, 200_000), { ranges: false }),
    'a coded body': gzipped(OTHER),
    'a part that is not the tag it was asked for': (request, response) => {
      const from = Number(/\d+/.exec(request.headers.range)[0]);
      response.writeHead(206, { etag: '"v2"', 'content-range': `bytes ${from}-299999/300000`, 'content-length': 300_000 - from });
      response.end(OTHER.subarray(from));
    },
  })) {
    await t.test(name, async (sub) => {
      const { link } = await hostile(sub, shortened(FILE, 100_000), second);
      broken(await fetched(link), 'file_changed');
    });
  }
});

test('before the first byte too, another file is not what was announced', async (t) => {
  for (const second of [serve(OTHER, { etag: '"v2"' }), serve(OTHER, { etag: null }), gzipped(OTHER)]) {
    const { link } = await hostile(t, shortened(FILE, 0), second);
    broken(await fetched(link), 'file_changed');
  }
});

test('a download can begin behind what is here already', async (t) => {
  const from = { received: 100_000, etag: '"v1"' };
  for (const ranges of [true, false]) {
    const { link, asked } = await hostile(t, serve(FILE, { ranges }));
    const { bytes, file } = await fetched(link, { from });
    same(bytes, FILE.subarray(100_000));
    assert.equal(file.total, FILE.length);
    assert.equal(asked[0].range, 'bytes=100000-');
  }
  for (const changed of [serve(OTHER, { etag: '"v2"' }), serve(OTHER, { etag: null }), gzipped(FILE)]) {
    const { link } = await hostile(t, changed);
    await assert.rejects(download(link, { ...QUICK, from }), { code: 'file_changed' });
  }
});

test('a part must be exactly the one that was asked for', async (t) => {
  for (const range of ['bytes 0-299999/300000', 'bytes 100000-200000/300000', 'bytes 100000-299999/*', 'bytes */300000',
    'items 1-2/3', '']) {
    const second = (request, response) => {
      const lengths = { 'content-length': 200_000, 'x-sluicegate-length': 300_000 };
      response.writeHead(206, { etag: '"v1"', 'content-range': range, ...lengths });
      response.end(FILE.subarray(100_000));
    };
    const { link } = await hostile(t, shortened(FILE, 100_000), second);
    broken(await fetched(link), 'unexpected_answer');
  }
  const unasked = await hostile(t, (request, response) => {
    response.writeHead(206, { etag: '"v1"', 'content-range': 'bytes 0-299999/300000', 'content-length': 300_000 });
    response.end(FILE);
  });
  await assert.rejects(download(unasked.link, QUICK), { code: 'unexpected_answer' });
});

test('without a strong tag nothing is resumed', async (t) => {
  for (const etag of [null, 'W/"v1"', 'v1']) {
    const { link, asked } = await hostile(t, shortened(FILE, 100_000, etag));
    broken(await fetched(link), 'incomplete');
    assert.equal(asked.length, 1);
  }
});

test('a coded body: neither length nor digest are those of the file, and a break is an error', async (t) => {
  const coded = await hostile(t, (request, response) => {
    response.setHeader('repr-digest', `sha-256=:${'A'.repeat(43)}=:`);
    gzipped(FILE)(request, response);
  });
  const { file, bytes, error } = await fetched(coded.link, { hash, sha256: SHA256 });
  assert.equal(error, undefined);
  assert.equal(file.total, undefined);
  same(bytes);
  const cut = await hostile(t, gzipped(FILE, 100_000));
  broken(await fetched(cut.link), 'incomplete');
  assert.ok(cut.asked.every((headers) => headers.range === undefined));
});

test('a coding that is hidden, as from a page on another origin, is an error and no mixture', async (t) => {
  const { link, asked } = await hostile(t, serve(FILE));
  const hidden = async (request) => {
    await fetch(request).then((response) => response.body.cancel());
    return new Response(FILE.subarray(0, 1000), { headers: { etag: '"v1"', 'content-length': '300000' } });
  };
  broken(await fetched(link, { fetch: hidden }), 'length_mismatch');
  assert.equal(asked.length, 1);
});

test('a digest that does not hold is an error, in the stream and in blob()', async (t) => {
  const wrong = { headers: { 'repr-digest': `md5=:AAAA:, sha-256=:${createHash('sha256').update(OTHER).digest('base64')}:` } };
  const announced = await hostile(t, serve(FILE, wrong));
  broken(await fetched(announced.link, { hash }), 'digest_mismatch');
  await assert.rejects((await download(announced.link, QUICK)).blob(), { code: 'digest_mismatch' });
  const { link } = await hostile(t, serve(FILE));
  broken(await fetched(link, { hash, sha256: '0'.repeat(64) }), 'digest_mismatch');
  await assert.rejects((await download(link, { ...QUICK, sha256: '0'.repeat(64) })).blob(), { code: 'digest_mismatch' });
  const blob = await (await download(link, { ...QUICK, sha256: SHA256.toUpperCase() })).blob();
  same(Buffer.from(await blob.arrayBuffer()));
  const unchecked = await download(link, { ...QUICK, sha256: SHA256 });
  assert.throws(() => unchecked.stream, TypeError);
  await (await unchecked.blob()).arrayBuffer();
});

test('429 and 503 are waited for within the bound, and no longer', async (t) => {
  for (const status of [429, 503]) {
    const { link, asked } = await hostile(t, refuse(status, 'rate_limited', { 'retry-after': '0' }), serve(FILE));
    same((await fetched(link)).bytes);
    assert.equal(asked.length, 2);
    const long = await hostile(t, refuse(status, 'quota_exceeded', { 'retry-after': '61' }));
    await assert.rejects(download(long.link, QUICK), { code: 'quota_exceeded', status, retryAfter: 61 });
    assert.equal(long.asked.length, 1);
  }
  const began = performance.now();
  const second = await hostile(t, refuse(429, 'rate_limited', { 'retry-after': '1' }), serve(FILE));
  same((await fetched(second.link)).bytes);
  assert.ok(performance.now() - began > 950, 'Retry-After was not waited for');
  const date = await hostile(t, refuse(503, 'unavailable', { 'retry-after': new Date(Date.now() + 3600_000).toUTCString() }));
  const error = await download(date.link, QUICK).catch((fault) => fault);
  assert.ok(error.retryAfter > 3500 && error.retryAfter <= 3600, `${error.retryAfter}`);
  const always = await hostile(t, refuse(429, 'rate_limited'));
  await assert.rejects(download(always.link, QUICK), { code: 'rate_limited', status: 429 });
  assert.equal(always.asked.length, 3);
});

test('other refusals are told once, with all that the problem document says', async (t) => {
  const { link, asked } = await hostile(t, refuse(403, 'link_expired'));
  const error = await download(link, QUICK).catch((fault) => fault);
  assert.ok(error instanceof DownloadError);
  const { code, status, detail, requestId, retryAfter } = error;
  assert.deepEqual([code, status, detail, requestId, retryAfter], ['link_expired', 403, 'why link_expired', 'r-1', undefined]);
  assert.equal(error.message, 'the download was refused with status 403 (`link_expired`): why link_expired');
  assert.equal(asked.length, 1);
  const page = await hostile(t, (request, response) => {
    response.writeHead(502, { 'x-request-id': 'r-2' });
    response.end('<h1>');
  });
  await assert.rejects(download(page.link, QUICK), { code: 'http_502', status: 502, requestId: 'r-2' });
  assert.equal(page.asked.length, 1);
});

/** An answer made of chunks that are asked for one by one. */
function pieces(count, bytes, status) {
  const seen = { pulled: 0, cancelled: false };
  const pull = (controller) => {
    seen.pulled += 1;
    if (seen.pulled > count) controller.close();
    else controller.enqueue(bytes(seen.pulled - 1));
  };
  const cancel = () => { seen.cancelled = true; };
  return { seen, fetch: async () => new Response(new ReadableStream({ pull, cancel }, { highWaterMark: 0 }), { status }) };
}

test('of a refusal no more than 64 KiB are read', async () => {
  const endless = pieces(1000, () => new Uint8Array(16_384).fill(0x20), 404);
  await assert.rejects(download('http://h/', { ...QUICK, fetch: endless.fetch }), { code: 'http_404', status: 404 });
  assert.deepEqual(endless.seen, { pulled: 5, cancelled: true });
  const text = Buffer.from(JSON.stringify({ code: 'link_expired', detail: 'Отчёт' }));
  const split = pieces(text.length, (at) => text.subarray(at, at + 1), 403);
  await assert.rejects(download('http://h/', { ...QUICK, fetch: split.fetch }), { code: 'link_expired', detail: 'Отчёт' });
});

test('a refusal that does not end: it is told, and the connection is closed', { timeout: 20_000 }, async (t) => {
  let closed;
  const forever = (more) => (request, response) => {
    response.writeHead(404, { 'content-type': 'application/problem+json' });
    closed = new Promise((resolve) => { response.on('close', resolve); });
    more(response);
  };
  const flood = (response) => { if (!response.destroyed) response.write(Buffer.alloc(65_536), () => flood(response)); };
  for (const [more, idleTimeout] of [[flood, 60], [(response) => response.write('{'), 0.05]]) {
    const { link, asked } = await hostile(t, forever(more));
    await assert.rejects(download(link, { ...QUICK, idleTimeout }), { code: 'http_404', status: 404 });
    await closed;
    assert.equal(asked.length, 1);
  }
});

test('what can prove that a file is whole', async (t) => {
  const chunked = (headers) => (request, response) => response.writeHead(200, headers).end(FILE);
  for (const [behaviour, options, checked, coding] of [
    [serve(FILE), {}, 'length'],
    [serve(FILE, { chunked: true, headers: { connection: 'close' } }), {}, 'length'],
    [chunked({ connection: 'close' }), {}, undefined],
    [chunked({ connection: 'close' }), { sha256: SHA256 }, 'digest'],
    [chunked({ connection: 'close', 'repr-digest': REPR_DIGEST }), {}, 'digest'],
    [chunked({ connection: 'keep-alive' }), {}, 'framing'],
    [gzipped(FILE), {}, undefined, 'gzip'],
    [gzipped(FILE), { sha256: SHA256 }, 'digest', 'gzip'],
  ]) {
    const { link } = await hostile(t, behaviour);
    const file = await download(link, { ...QUICK, ...options });
    assert.deepEqual([file.checked, file.coding], [checked, coding]);
    same(Buffer.from(await (await file.blob()).arrayBuffer()));
  }
});

test('a refusal while resuming ends the stream; an upstream that is away for a moment does not', async (t) => {
  const expired = await hostile(t, shortened(FILE, 100_000), refuse(403, 'link_expired'));
  broken(await fetched(expired.link), 'link_expired');
  const away = await hostile(t, shortened(FILE, 100_000), refuse(502, 'upstream_unreachable'), serve(FILE));
  same((await fetched(away.link)).bytes);
});

test('what is left undefined has its default, and no timer is too long', async (t) => {
  const { link, asked } = await hostile(t, shortened(FILE, 100_000), serve(FILE));
  const { bytes, error } = await fetched(link, { attempts: undefined, signal: undefined, idleTimeout: Infinity });
  assert.equal(error, undefined);
  same(bytes);
  assert.equal(asked.length, 2);
});

test('attempts that bring nothing are bounded', async (t) => {
  const { link, asked } = await hostile(t, (request, response) => response.destroy());
  const error = await download(link, QUICK).catch((fault) => fault);
  assert.equal(error.code, 'unreachable');
  assert.ok(!`${error.stack}${error.cause?.stack}`.includes('sig=y'));
  assert.equal(asked.length, 3);
});

test('a token of one\'s own does not follow a redirect', async (t) => {
  const other = await hostile(t, serve(FILE));
  const { link } = await hostile(t, refuse(307, 'fetch_directly', { location: other.link }));
  const headers = { 'x-sluicegate-token': 't' };
  await assert.rejects(download(link, { ...QUICK, headers }), { code: 'fetch_directly', status: 307 });
  assert.equal(other.asked.length, 0);
  same((await fetched(link)).bytes);
});

test('a server that hangs: an AbortSignal ends it, idleTimeout tries again', async (t) => {
  const reason = new Error('enough');
  const silent = await hostile(t, hang());
  const before = new AbortController();
  const pending = download(silent.link, { ...QUICK, signal: before.signal });
  before.abort(reason);
  await assert.rejects(pending, reason);

  const half = await hostile(t, hang(FILE, 50_000));
  const during = new AbortController();
  const onProgress = ({ received }) => received >= 50_000 && during.abort(reason);
  const file = await download(half.link, { ...QUICK, signal: during.signal, onProgress });
  const { bytes, error } = await drain(file.stream);
  assert.equal(error, reason);
  same(bytes, FILE.subarray(0, bytes.length));
  assert.equal(half.asked.length, 1);

  const resumed = await hostile(t, hang(FILE, 50_000), serve(FILE));
  same((await fetched(resumed.link, { idleTimeout: 0.5, attempts: 20 })).bytes);
  const mute = await hostile(t, hang());
  await assert.rejects(download(mute.link, { ...QUICK, idleTimeout: 0.05 }), { code: 'unreachable', message: /\(nothing came for 0\.05 seconds\), and 3 attempts/ });
  assert.equal(mute.asked.length, 3);
});

test('an abort and a silence end a transfer also where fetch forgets its signal', { timeout: 20_000 }, async () => {
  let cancelled = 0;
  const deaf = async () => new Response(new ReadableStream({ pull: (it) => (it.enqueue(FILE.subarray(0, 9)), new Promise(() => {})), cancel: () => { cancelled += 1; } }));
  const controller = new AbortController();
  const file = await download('http://h/', { ...QUICK, fetch: deaf, signal: controller.signal, onProgress: () => controller.abort() });
  await assert.rejects(file.blob(), { name: 'AbortError' });
  const silent = await download('http://h/', { ...QUICK, fetch: deaf, idleTimeout: 0.01 });
  await assert.rejects(silent.blob(), { code: 'incomplete' });
  assert.equal(cancelled, 2);
});

test('an abort while waiting ends the wait', async (t) => {
  const { link } = await hostile(t, refuse(429, 'rate_limited', { 'retry-after': '50' }));
  const controller = new AbortController();
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, 'setTimeout', (call, time, ...rest) => {
    if (time === 50_000) queueMicrotask(() => controller.abort());
    return real(call, time, ...rest);
  });
  const began = performance.now();
  await assert.rejects(download(link, { signal: controller.signal }), { name: 'AbortError' });
  assert.ok(performance.now() - began < 25_000, 'the wait went on');
});

test('a connection that breaks after the last byte breaks nothing', async (t) => {
  let breakOff;
  const { link, asked } = await hostile(t, (request, response) => {
    response.writeHead(200, { etag: '"v1"', 'x-sluicegate-length': FILE.length });
    response.write(FILE);
    breakOff = () => response.destroy();
  });
  const { bytes, error } = await fetched(link, { onProgress: ({ received, total }) => received === total && breakOff() });
  assert.equal(error, undefined);
  same(bytes);
  assert.equal(asked.length, 1);
});

test('options that nobody knows and links that are none are refused, the link unquoted', async () => {
  await assert.rejects(download('http://127.0.0.1/', { retries: 5 }), /there is no option `retries`/);
  await assert.rejects(download('http://127.0.0.1/', { sha256: 'x' }), TypeError);
  for (const attempts of ['5', NaN, -1, null]) {
    await assert.rejects(download('http://127.0.0.1/', { attempts }), /^TypeError: attempts `.*` is no number from 0 on; /);
  }
  for (const link of ['/?sig=y', 'file:///?sig=y', 'http://[/?sig=y']) {
    const error = await download(link).catch((fault) => fault);
    assert.ok(error instanceof TypeError && !inspect(error).includes('sig'), error);
  }
});
