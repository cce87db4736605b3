// The unfinished file beside its destination: `<name>.part`, and `<name>.part.json`, which says of what it is a part.
// Both survive the process, and the Python library goes on with them too. The note is written first and removed last: a
// `.part` without one is somebody else's file, and stays as it is.

import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { lstat, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';

import { DownloadError } from './download.js';

const LONGEST_NOTE = 65_536;
/** Nobody takes longer over a note, which is shorter than a block of the disk. */
const DRAFT_MS = 60_000;
/** Neither is a link followed that somebody put there, nor a FIFO's other end waited for. Windows has neither flag. */
const CAREFUL = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
export const TO_READ = constants.O_RDONLY | CAREFUL;

/** Names the file behind a link, also when the link is made anew: its `url`, or all that is sent if it has none. */
export function sourceOf(link, headers) {
  const text = String(link);
  const [, scheme, host, query] = /^([a-z]+):\/\/([^/?#]*)[^?#]*\??([^#]*)/i.exec(text) ?? [];
  const url = new URLSearchParams(query).getAll('url').find((value) => value !== '');
  // A token in a field tells more of the file than the link that it goes with.
  const whole = headers ? `${text} ${JSON.stringify([...new Headers(headers)])}` : text;
  const name = url === undefined ? whole : `${scheme.toLowerCase()}://${host} ${url}`;
  return createHash('sha256').update(name).digest('hex');
}

function places(path) {
  const name = basename(path);
  const fits = Buffer.byteLength(`${name}.part.json`) <= 255;
  const stem = join(dirname(path), fits ? name : createHash('sha256').update(name).digest('hex'));
  return { part: `${stem}.part`, note: `${stem}.part.json` };
}

export const partOf = (path) => places(path).part;

async function found(path) {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

const isSame = (one, other) => one !== undefined && other !== undefined && one.ino === other.ino && one.dev === other.dev;

/** A plain file of this user, under no more names than its own, since what is written shows under all of them. */
const isOurs = (info, links = 1) => info.isFile() && info.nlink <= links
  && (process.geteuid === undefined || info.uid === BigInt(process.geteuid()));

function foreign(path) {
  const reason = 'is there, and is no unfinished download of this library';
  return new DownloadError('file_exists', `\`${path}\` ${reason}; move it away, or choose another name`);
}

function busy(path) {
  return new DownloadError('busy', `another download is writing to \`${path}\`; wait for it, or choose another name`);
}

/** The note, if it is one of this library or of Python's. */
async function readNote(path) {
  let handle;
  try {
    if (!isOurs(await found(path))) return undefined;
    handle = await open(path, TO_READ);
    if (!isOurs(await handle.stat({ bigint: true }))) return undefined;
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(LONGEST_NOTE), 0, LONGEST_NOTE, 0);
    const { source, tag, length, ...more } = JSON.parse(buffer.toString('utf8', 0, bytesRead));
    const named = typeof source === 'string' && /^([0-9a-f]{64})?$/.test(source) && Object.keys(more).length === 0;
    const fits = (tag === null || typeof tag === 'string') && (length === null || Number.isInteger(length));
    return named && fits ? { source, tag, length } : undefined;
  } catch {
    return undefined;
  } finally {
    await handle?.close();
  }
}

/** What an earlier process left: `there` of a part of ours, and `from` where it can be gone on with. Else it throws. */
export async function findPart(path, source) {
  const { part, note } = places(path);
  const there = await found(part);
  const said = await readNote(note);
  if (!said && await found(note)) throw foreign(note);
  if (!there) return {};
  if (!said) {
    if (await found(part)) throw foreign(part);
    return {}; // it has got its name meanwhile
  }
  if (!isOurs(there)) {
    // An earlier process may have ended between giving the whole file its name and taking this one away.
    if (!isOurs(there, 2) || !isSame(there, await found(path))) throw foreign(part);
    await rm(part);
    return {};
  }
  // One byte less than is there: an empty rest cannot be asked for.
  const received = Number(there.size) - 1;
  const { tag, length } = said;
  const strong = /^"[\x21\x23-\x7e\x80-\xff]*"$/.test(tag ?? '');
  const useful = said.source === source && strong && received > 0 && received < (length ?? Infinity);
  return { there, from: useful ? { received, etag: tag } : undefined, length: length ?? undefined };
}

/** Removes a part, if it is still the one that `there` tells of, and its note. */
export async function discard(path, there) {
  const { part, note } = places(path);
  if (!isSame(there, await found(part))) return;
  await rm(part, { force: true });
  await rm(note, { force: true });
}

export async function removeNote(path) {
  await rm(places(path).note, { force: true });
}

/** The next note, under one name for each: a draft that an ended process left is removed when it is old enough. */
async function openDraft(path) {
  const named = (text) => join(dirname(path), `.sluicegate-${text}`);
  const usual = named(createHash('sha256').update(basename(path)).digest('hex').slice(0, 32));
  const left = await found(usual);
  if (left && isOurs(left) && Date.now() - Number(left.mtimeMs) > DRAFT_MS) await rm(usual, { force: true });
  for (const name of [usual, named(randomBytes(16).toString('hex'))]) {
    try {
      return [name, await open(name, 'wx')];
    } catch (error) {
      if (error.code !== 'EEXIST' || name !== usual) throw error;
    }
  }
}

/** Says of what the bytes are a part; without a tag, that they are ours and of no use later. */
async function writeNote(path, kept) {
  const [fresh, handle] = await openDraft(path);
  try {
    await handle.writeFile(JSON.stringify(kept ?? { source: '', tag: null, length: null }));
    await handle.close();
    await rename(fresh, path);
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(fresh, { force: true });
    throw error;
  }
}

/** Opens a new part, or the one that was found in order to go on with it. */
export async function openPart(path, left, kept) {
  const { part, note } = places(path);
  let flags = constants.O_RDWR | CAREFUL;
  if (!left.from) {
    await discard(path, (await findPart(path)).there);
    await writeNote(note, kept);
    flags |= constants.O_CREAT | constants.O_EXCL;
  }
  let handle;
  try {
    handle = await open(part, flags);
  } catch (error) {
    throw ['EEXIST', 'ENOENT', 'ELOOP'].includes(error.code) ? busy(path) : error;
  }
  const info = await handle.stat({ bigint: true });
  if (isOurs(info) && (!left.from || isSame(info, left.there))) return handle;
  await handle.close();
  throw busy(path);
}

/** Another download that took the part over has put its own in its place. */
export async function checkMine(path, handle, size) {
  const [mine, there] = await Promise.all([handle.stat({ bigint: true }), found(partOf(path))]);
  if (!isSame(mine, there) || Number(mine.size) !== size) throw busy(path);
}
