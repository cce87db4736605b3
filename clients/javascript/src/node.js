// Downloads a link into a file: `<name>.part` first, with a note beside it of what it is a part, and under its own name
// only when it is whole. A part that an earlier process left is gone on with.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link as hardLink, lstat, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';

import { DownloadError, download } from './download.js';
import { TO_READ, checkMine, discard, findPart, openPart, partOf, removeNote, sourceOf } from './part.js';

export { DownloadError, download };

const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069<>:"|?*]/g;
const LONGEST_NAME = 255 - '_.part.json'.length;
/** What is kept beside a file; no server shall name one of these. */
const BESIDE = /\.(part|part\.json|part\.etag|new)$/i;

/** After such an error a part is of no use. Its last byte is asked for too, so 416 says that the file is shorter now. */
const WORTHLESS = ['file_changed', 'length_mismatch', 'digest_mismatch'];
const isWorthless = ({ code, status }) => WORTHLESS.includes(code) || status === 416;

/** Downloads into `target`, a file's path or a folder; resolves when the file is there, whole. */
export async function downloadToFile(link, target, options = {}) {
  const { overwrite = false, ...rest } = options;
  if (rest.from || rest.hash) throw new TypeError('`from` and `hash` are set by downloadToFile; leave them out');
  const folder = await isFolder(target);
  if (!folder && (target.endsWith('/') || target.endsWith(sep) || !(await isFolder(dirname(target))))) {
    throw new TypeError(`target \`${target}\`: there is no such folder; make it first`);
  }
  try {
    return await attempt(link, target, { folder, overwrite, rest });
  } catch (error) {
    // What an earlier process left is of another version: the only thing to do with it is to begin anew.
    if (!(error instanceof DownloadError && error.stale)) throw error;
    return attempt(link, target, { folder, overwrite, rest });
  }
}

async function isFolder(path) {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false;
    throw error;
  }
}

async function attempt(link, target, { folder, overwrite, rest }) {
  const source = sourceOf(link, rest.headers);
  let path = folder ? undefined : target;
  let left = path ? await look(path, source, overwrite) : {};
  let file = await begin(link, rest, path, left);
  if (folder) {
    // Only the answer names the file, so a part of it is found only now, and the request is made once more.
    path = join(target, safeName(file.filename));
    left = await look(path, source, overwrite).catch(async (error) => {
      await file.stream.cancel();
      throw error;
    });
    if (left.from) {
      await file.stream.cancel();
      file = await begin(link, rest, path, left);
    }
  }
  await save(file, path, left, source);
  await putInPlace(path, overwrite);
  const { filename, type, total, digest } = file;
  return { path, filename, type, total: total ?? (await stat(path)).size, digest };
}

/** What is there of a file; throws if it cannot be begun. */
async function look(path, source, overwrite) {
  const left = await findPart(path, source);
  await checkFree(path, overwrite);
  return left;
}

/** Asks for the file, or for the rest of what is there. Only an answer whose end can be proved is good. */
async function begin(link, rest, path, left) {
  try {
    const file = await download(link, { ...rest, fetch: uncoded(rest.fetch), hash: () => digestOf(path, left), from: left.from });
    try {
      if (file.coding && !rest.sha256) {
        const what = `the file comes coded as \`${file.coding.slice(0, 40)}\`, which was not asked for`;
        throw new DownloadError('unexpected_answer', `${what}; have it stored without coding, or give its \`sha256\``);
      }
      checkProof(file);
      if (left.from && left.length !== undefined && file.total !== left.length) {
        throw new DownloadError('file_changed', 'the file has another length than before; start again');
      }
    } catch (error) {
      await file.stream.cancel();
      throw error;
    }
    return file;
  } catch (error) {
    if (left.from && isWorthless(error)) {
      await discard(path, left.there);
      error.stale = true;
    }
    throw error;
  }
}

/** A coding of the transfer is not asked for: its length and digest would not be those of the file. */
const uncoded = (fetch = globalThis.fetch) => (request) => {
  // With a range, fetch says so itself.
  if (!request.headers.has('range')) request.headers.set('accept-encoding', 'identity');
  return fetch(request);
};

/** Node takes the end of a connection for the end of a body, so without length and digest a broken file looks whole. */
function checkProof({ checked }) {
  if (checked) return;
  const why = 'the server says neither length nor digest, so nothing tells whether the file is whole';
  throw new DownloadError('incomplete', `${why}; give its \`sha256\``);
}

/** What digests the file, with the bytes of the part in it already. */
async function digestOf(path, { from }) {
  const hasher = createHash('sha256');
  if (!from) return hasher;
  for await (const chunk of createReadStream(partOf(path), { flags: TO_READ, end: from.received - 1 })) hasher.update(chunk);
  return hasher;
}

/** Writes the stream into the part; the part stays for the next time if it can be of use then. */
async function save(file, path, left, source) {
  const kept = file.etag && !file.coding ? { source, tag: file.etag, length: file.total ?? null } : undefined;
  let handle;
  try {
    handle = await openPart(path, left, kept);
    let position = left.from?.received ?? 0;
    for await (const chunk of file.stream) {
      for (let at = 0; at < chunk.length;) {
        at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten;
      }
      position += chunk.length;
    }
    checkProof(file); // the last answer may be another than the first
    await handle.sync();
    await checkMine(path, handle, position);
  } catch (error) {
    await file.stream.cancel().catch(() => {}); // it has failed already, or ends here
    const mine = await handle?.stat({ bigint: true });
    if (mine && (!kept || mine.size === 0n || isWorthless(error))) await discard(path, mine);
    throw error;
  } finally {
    await handle?.close();
  }
}

async function checkFree(path, overwrite) {
  const there = await lstat(path).catch(() => undefined);
  if (!there || (overwrite && there.isFile())) return;
  throw new DownloadError('file_exists', `\`${path}\` is there already; give \`overwrite: true\`, or another name`);
}

/** Gives the part its name. A hard link fails where a file is; a rename would replace it. */
async function putInPlace(path, overwrite) {
  const part = partOf(path);
  if (overwrite) {
    await rename(part, path);
  } else {
    await hardLink(part, path).catch(async (error) => {
      if (error.code === 'EEXIST') await checkFree(path, false);
      throw error;
    });
    await rm(part, { force: true }); // another call may have tidied up already
  }
  await removeNote(path);
}

/** A name that is safe in a folder on every system, whatever the server says. The same rules as the gateway's. */
export function safeName(given) {
  const last = (given ?? '').replace(/[/\\]+$/, '').split(/[/\\]/).at(-1);
  const plain = last.toWellFormed().replace(UNSAFE, '_');
  let name = plain.replace(/^[\s.]+|[\s.]+$/g, '').replace(/^~/, '_');
  if (/^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\.|$)/i.test(name)) name = `_${name}`;
  name = shorten(name);
  return (BESIDE.test(name) ? `${name}_` : name) || 'download';
}

/** As many bytes as a file system and the names beside it take; the extension stays. */
function shorten(name) {
  const bytes = (text) => Buffer.byteLength(text);
  if (bytes(name) <= LONGEST_NAME) return name;
  const extension = /\.[^.\s]{1,15}$/.exec(name)?.[0] ?? '';
  const stem = Array.from(name.slice(0, name.length - extension.length));
  while (bytes(stem.join('')) + bytes(extension) > LONGEST_NAME) stem.pop();
  return stem.join('').replace(/[\s.]+$/, '') + extension;
}
