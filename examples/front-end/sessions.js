// Who is signed in: a random cookie, and what it stands for, kept in memory.

import { randomBytes } from 'node:crypto';

const SECONDS = 3600;
const MOST = 10_000;
const sessions = new Map();

/** Begins a session; gives the cookie for it. Scripts cannot read it, and no other site's request carries it. */
export function begin(user) {
  const now = Date.now();
  for (const [token, session] of sessions) if (session.ends <= now || sessions.size >= MOST) sessions.delete(token);
  const token = randomBytes(32).toString('base64url');
  sessions.set(token, { user, ends: now + SECONDS * 1000 });
  return cookie(token, SECONDS);
}

/** Who sent this request, or undefined. */
export function userOf(request) {
  const session = sessions.get(tokenOf(request));
  return session && session.ends > Date.now() ? session.user : undefined;
}

/** Ends the session of this request; gives the cookie that says so. */
export function end(request) {
  sessions.delete(tokenOf(request));
  return cookie('', 0);
}

function tokenOf(request) {
  return /(?:^|;\s*)session=([\w-]{43})(?:;|$)/.exec(request.headers.cookie ?? '')?.[1];
}

function cookie(value, seconds) {
  return `session=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict`;
}
