// Who may sign in, and which files are whose. An application has a database here; the rest of the example stays.

import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(scrypt);

/** The passwords stand on the sign-in page, so this is the one place that may know them. */
export const DEMO = [
  { user: 'mara', password: 'sluice-and-gate' },
  { user: 'tomas', password: 'lock-and-weir' },
];

const FILES = [
  { id: 'clip', owner: 'mara', name: 'Lock gates, opening.mp4', size: 29558, url: 'http://sample.localhost/clip.mp4' },
  { id: 'handbook', owner: 'mara', name: 'Handbook for keepers.pdf', size: 2105, url: 'http://sample.localhost/handbook.pdf' },
  { id: 'notes', owner: 'mara', name: 'Заметки.txt', size: 685, url: 'http://sample.localhost/notes.txt' },
  { id: 'survey', owner: 'mara', name: 'River survey.bin', size: 268435456, url: 'http://sample.localhost/large.bin' },
  { id: 'diary', owner: 'tomas', name: 'Diary.txt', size: 685, url: 'http://sample.localhost/notes.txt' },
];

const salt = randomBytes(16);
const keys = new Map(await Promise.all(DEMO.map(async ({ user, password }) => [user, await derive(password, salt, 32)])));
const nobody = randomBytes(32);

/** Does the password belong to the user? An unknown user takes as long as a known one. */
export async function checkPassword(user, password) {
  const given = await derive(password, salt, 32);
  return timingSafeEqual(given, keys.get(user) ?? nobody);
}

/** A user's files. */
export function filesOf(user) {
  return FILES.filter((file) => file.owner === user);
}

/** One file, if it is the user's; somebody else's is as absent as one that does not exist. */
export function fileOf(user, id) {
  return FILES.find((file) => file.id === id && file.owner === user);
}
