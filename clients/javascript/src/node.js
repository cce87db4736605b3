// Downloads a link into a file: `<name>.part` first, with its validator beside it, and under its own name only when it
// is whole. A part that an earlier process left is gone on with.

import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { link as hardLink, lstat, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';

import { DownloadError, download } from './download.js';

export { DownloadError, download };

const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069<>:"|?*]/g;
const LONGEST_NAME = 255 - '.part.etag'.length;

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
  let path = folder ? undefined : target;
  let part = path && await readPart(path);
  if (path) await checkFree(path, overwrite);
  const begin = async () => {
    try {
      return await download(link, { ...rest, ...withPart(part) });
    } catch (error) {
      if (part && isWorthless(error)) throw Object.assign(error, { stale: await discard(path) });
      throw error;
    }
  };
  let file = await begin();
  if (folder) {
    // Only the answer names the file, so a part of it is found only now, and the request is made once more.
    path = join(target, safeName(file.filename));
    part = await readPart(path);
    await checkFree(path, overwrite).catch(async (error) => {
      await file.stream.cancel();
      throw error;
    });
    if (part) {
      await file.stream.cancel();
      file = await begin();
    }
  }
  await save(file, path, part);
  await putInPlace(path, overwrite);
  const { filename, type, total, digest } = file;
  return { path, filename, type, total: total ?? (await stat(path)).size, digest };
}

/** Options that go on behind a part, with its bytes digested first. */
function withPart(part) {
  const hash = async () => {
    const hasher = createHash('sha256');
    if (part) for await (const chunk of createReadStream(part.path, { end: part.received - 1 })) hasher.update(chunk);
    return hasher;
  };
  return part ? { hash, from: { received: part.received, etag: part.etag } } : { hash };
}

/** What an earlier process left. One byte less than is there: an empty rest cannot be asked for. */
async function readPart(path) {
  try {
    const info = await lstat(`${path}.part`);
    const etag = await readFile(`${path}.part.etag`, 'latin1');
    const received = info.size - 1;
    return info.isFile() && received > 0 && etag ? { path: `${path}.part`, received, etag } : undefined;
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Writes the stream into the part; the part stays for the next time if it can be of use then. */
async function save(file, path, part) {
  let handle;
  try {
    if (!part) await discard(path);
    // Neither a link that someone put there is followed, nor a file overwritten that another process began.
    const flags = part ? constants.O_RDWR | (constants.O_NOFOLLOW ?? 0) : 'wx';
    handle = await open(`${path}.part`, flags);
    if (!part && file.etag) await writeFile(`${path}.part.etag`, file.etag, 'latin1');
    let position = part?.received ?? 0;
    for await (const chunk of file.stream) {
      for (let at = 0; at < chunk.length;) {
        at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten;
      }
      position += chunk.length;
    }
    await handle.sync();
    const [mine, there] = await Promise.all([handle.stat(), lstat(`${path}.part`)]);
    if (mine.ino !== there.ino || mine.size !== position) {
      const advice = 'wait for it, or choose another name';
      throw new DownloadError('busy', `another download is writing to \`${path}\`; ${advice}`);
    }
  } catch (error) {
    await file.stream.cancel().catch(() => {}); // it has failed already, or ends here
    if (!file.etag || isWorthless(error)) await discard(path);
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
  if (overwrite) {
    await rename(`${path}.part`, path);
  } else {
    await hardLink(`${path}.part`, path).catch(async (error) => {
      if (error.code === 'EEXIST') await checkFree(path, false);
      throw error;
    });
    await rm(`${path}.part`);
  }
  await rm(`${path}.part.etag`, { force: true });
}

async function discard(path) {
  await rm(`${path}.part`, { force: true });
  await rm(`${path}.part.etag`, { force: true });
  return true;
}

/** A name that is safe in a folder on every system, whatever the server says. The same rules as the gateway's. */
export function safeName(given) {
  const last = (given ?? '').replace(/[/\\]+$/, '').split(/[/\\]/).at(-1);
  const plain = last.toWellFormed().replace(UNSAFE, '_');
  let name = plain.replace(/^[\s.]+|[\s.]+$/g, '').replace(/^~/, '_');
  if (/^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)\s*(\.|$)/i.test(name)) name = `_${name}`;
  return shorten(name) || 'download';
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
