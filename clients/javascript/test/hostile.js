// A server on loopback that does to downloads what the internet does. Each request is answered by the next behaviour of
// a list; the last one stays.

import { createServer } from 'node:http';
import { createServer as createPlain } from 'node:net';
import { gzipSync } from 'node:zlib';

/** Bytes that show where they belong. */
export function bytesOf(length, seed = 1) {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** Starts it. `asked` collects the fields of every request. */
export async function hostile(t, ...behaviours) {
  const asked = [];
  const server = createServer((request, response) => {
    const behaviour = behaviours[Math.min(asked.length, behaviours.length - 1)];
    asked.push(request.headers);
    behaviour(request, response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => { server.closeAllConnections(); server.close(); });
  return { link: `http://127.0.0.1:${server.address().port}/?url=x&sig=y`, asked };
}

/** The file, or the asked part of it, up to `cut` bytes of this answer; then the connection breaks. */
export function serve(bytes, { etag = '"v1"', cut, headers = {}, ranges = true, chunked = false } = {}) {
  return (request, response) => {
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const partial = ranges && range && request.headers['if-range'] === etag;
    const from = partial ? Number(range[1]) : 0;
    const body = bytes.subarray(from);
    const head = { ...(etag && { etag }), ...headers };
    if (partial) head['content-range'] ??= `bytes ${from}-${bytes.length - 1}/${bytes.length}`;
    if (chunked) head['x-sluicegate-length'] ??= bytes.length;
    else head['content-length'] ??= body.length;
    response.writeHead(partial ? 206 : 200, head);
    if (cut === undefined) response.end(body);
    else response.write(body.subarray(0, cut), () => response.destroy());
  };
}

/** The chunked body ends in an orderly way after `length` bytes, as some platforms end a broken one. */
export const shortened = (bytes, length, etag = '"v1"') => (request, response) => {
  response.writeHead(200, { ...(etag && { etag }), 'x-sluicegate-length': bytes.length });
  response.end(bytes.subarray(0, length));
};

/** More bytes than announced. */
export const lengthened = (bytes, length) => (request, response) => {
  response.writeHead(200, { etag: '"v1"', 'x-sluicegate-length': length });
  response.end(bytes);
};

/** A refusal as the gateway writes it. */
export function refuse(status, code, headers = {}) {
  return (request, response) => {
    response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
    response.end(JSON.stringify({ status, code, detail: `why ${code}`, title: code, request_id: 'r-1' }));
  };
}

/** The body in gzip, with the length of that. */
export const gzipped = (bytes, cut) => (request, response) => {
  const coded = gzipSync(bytes);
  const lengths = { 'content-length': coded.length, 'x-sluicegate-length': coded.length };
  response.writeHead(200, { etag: '"v1"', 'content-encoding': 'gzip', ...lengths });
  if (cut === undefined) response.end(coded);
  else response.write(coded.subarray(0, cut), () => response.destroy());
};

/** Some bytes, or none, and then nothing for ever. */
export const hang = (bytes, length) => (request, response) => {
  if (length === undefined) return;
  response.writeHead(200, { etag: '"v1"', 'content-length': bytes.length });
  response.write(bytes.subarray(0, length));
};

/** Answers byte for byte as given, one after another, and ends the connection each time; the last one stays. */
export async function raw(t, ...answers) {
  let asked = 0;
  const server = createPlain((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => {
      socket.end(answers[Math.min(asked, answers.length - 1)]);
      asked += 1;
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  return { link: `http://127.0.0.1:${server.address().port}/?url=x&sig=y` };
}
