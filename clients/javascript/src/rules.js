// What the values of a link may be: docs/link-format.md, section 2. Each function takes one option and gives its text as
// it is signed, or throws a MintError that names the option.

/** Why nothing was signed. `parameter` is the option at fault, as this library calls it. */
export class MintError extends Error {
  constructor(parameter, message) {
    super(message);
    this.name = 'MintError';
    this.parameter = parameter;
  }
}

/** The latest moment that a link can name: twelve digits. */
export const LATEST = 999_999_999_999;

const utf8 = new TextEncoder();
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
// Unicode White_Space; `\s` has U+FEFF too, which is none.
const WHITE_SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
const LONE_SURROGATE = /\p{Surrogate}/u;
const DIRECTION = /[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;
const OCTET = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';
const IPV4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`);
const UNSAFE_TO_SHOW = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}`]/gu;

/** How many bytes a text has in UTF-8. */
export const byteLength = (text) => utf8.encode(text).length;

/** A value for an error's text: in backticks, on one line, not endless, and never a secret that can be told as one. */
export function quote(value) {
  const hidden = String(value).replace(/sgk1_[A-Za-z0-9_-]*/g, 'sgk1_…');
  const shown = hidden.replace(UNSAFE_TO_SHOW, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  return `\`${shown.length > 100 ? `${shown.slice(0, 100)}…` : shown}\``;
}

/** A URL in an error's text: what stands before `@` and after `?` may be another system's credential. */
function quoteUrl(value) {
  const [address, query] = value.split(/\?(.*)/s);
  return quote(address.replace(/^([^/]*\/*)[^/]*@/, '$1…@') + (query === undefined ? '' : '?…'));
}

/** Refuses whatever is not a string of whole characters. */
function checkString(parameter, value) {
  if (typeof value !== 'string') {
    const shown = ['number', 'bigint', 'boolean'].includes(typeof value) ? ` ${quote(value)}` : '';
    const kind = value === null ? 'null' : Array.isArray(value) ? 'an array' : `of type ${typeof value}`;
    throw new MintError(parameter, `${parameter}${shown} is ${kind}; give a string`);
  }
  if (LONE_SURROGATE.test(value)) {
    const problem = 'holds half a character (an unpaired surrogate)';
    throw new MintError(parameter, `${parameter} ${quote(value)} ${problem}; give whole text`);
  }
}

/** The key id, `kid`. */
export function readKid(value) {
  checkString('kid', value);
  if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(value)) {
    const rule = '1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit';
    throw new MintError('kid', `kid ${quote(value)} is no key id; write ${rule}`);
  }
  return value;
}

/** The bytes of the secret's own text, which are the key. The same rules as the gateway's `check_strength`. */
export function readSecret(value) {
  const refuse = (problem) => new MintError('secret', `secret ${problem}`);
  const isText = typeof value === 'string' && !LONE_SURROGATE.test(value);
  if (!isText) throw refuse('is no text; give a string such as `sluicegate keys new` prints');
  const bytes = utf8.encode(value);
  if (bytes.length < 32) throw refuse('is shorter than 32 bytes; make one with `sluicegate keys new`');
  if (new Set(bytes).size < 10) throw refuse('repeats a few characters; make one with `sluicegate keys new`');
  if (CONTROL.test(value)) throw refuse('holds a control character, such as the newline at the end of its file; trim it');
  return bytes;
}

/** Where the gateway is, ready to take `?` and a query. It answers at `/` alone (rule 1.1). */
export function readBase(value) {
  checkString('base', value);
  const refuse = (problem) => new MintError('base', `base ${quoteUrl(value)} ${problem}`);
  let url;
  try {
    url = new URL(value);
  } catch {
    throw refuse('is no URL; write the address of the gateway, such as `https://downloads.example.com`');
  }
  if (!/^https?:$/.test(url.protocol)) throw refuse('is neither http nor https; write `https://` and the host');
  if (url.username || url.password) throw refuse('carries a user name or password; leave it out');
  if (url.pathname !== '/' || /[?#]/.test(value)) throw refuse('has more than a host; leave out its path, query and fragment');
  return `${url.origin}/`;
}

/** The upstream file: rules 2.1 to 2.5. What parsers read differently is refused, as in src/gate/target.rs. */
export function readUrl(value) {
  if (value === undefined) throw new MintError('url', 'url is missing; give the address of the upstream file');
  checkString('url', value);
  const refuse = (problem) => new MintError('url', `url ${quoteUrl(value)} ${problem}`);
  if (byteLength(value) > 4096) throw refuse('is longer than 4096 bytes; give a shorter one');
  if (CONTROL.test(value) || WHITE_SPACE.test(value)) {
    throw refuse('holds white space or a control character; percent-encode it');
  }
  if (value.includes('\\')) throw refuse('holds a backslash; write `/`, or `%5C` in a path');
  if (value.includes('#')) throw refuse('has a fragment; leave out `#` and what follows');
  const authority = /^https?:\/\/([^/?]*)/i.exec(value)?.[1];
  if (authority === undefined) throw refuse('is no absolute URL; begin it with `https://` or `http://`');
  const host = checkAuthority(authority, refuse);
  if (host.startsWith('[') && addressBits(host.slice(1, -1))?.length !== 128) {
    throw refuse('has no IPv6 address in its brackets; write one such as `[2001:db8::1]`');
  }
  let parsed;
  try {
    parsed = new URL(value).hostname;
  } catch {
    throw refuse('is no valid URL; check its host');
  }
  if (IPV4.test(parsed) && parsed !== host) throw refuse('has an IPv4 host in another spelling; write it in plain dotted decimal');
  if (parsed === '' || parsed.endsWith('.')) throw refuse('has a host that is empty or ends in a dot; write its name alone');
  return value;
}

/** Rules 2.2 to 2.4, on the text as written. */
function checkAuthority(authority, refuse) {
  const colon = authority.lastIndexOf(':');
  const hasPort = colon >= 0 && colon > authority.lastIndexOf(']');
  const host = hasPort ? authority.slice(0, colon) : authority;
  const port = hasPort ? authority.slice(colon + 1) : undefined;
  if (host === '') throw refuse('names no host; write one after `//`');
  if (authority.includes('@')) throw refuse('carries a user name or password; leave it out');
  if (authority.includes('%')) throw refuse('has a percent-encoded host; write it plainly');
  if (/[.\u3002]$/.test(host)) throw refuse('has a host that ends in a dot; leave the dot out');
  if (port !== undefined && !(/^[1-9][0-9]{0,4}$/.test(port) && Number(port) <= 65535)) {
    throw refuse('has a port that is none; write a number from 1 to 65535, without leading zeros');
  }
  return host;
}

/** A whole number of seconds between two bounds. */
export function readSeconds(parameter, value, least, most) {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most) {
    const shown = ['number', 'string', 'bigint', 'boolean'].includes(typeof value) ? ` ${quote(value)}` : '';
    const rule = `no whole number of seconds from ${least} to ${most}`;
    throw new MintError(parameter, `${parameter}${shown} is ${rule}; give such a number`);
  }
  return value;
}

/** A moment: Unix seconds, or a Date, of which the seconds count. */
export function readMoment(parameter, value) {
  if (Number.isInteger(value) && /^\d{13}$/.test(value)) {
    throw new MintError(parameter, `${parameter} ${quote(value)}: that looks like milliseconds; divide by 1000`);
  }
  if (!(value instanceof Date)) return readSeconds(parameter, value, 0, LATEST);
  const seconds = Math.floor(value.getTime() / 1000);
  if (!(seconds >= 0 && seconds <= LATEST)) {
    throw new MintError(parameter, `${parameter} is a Date that a link cannot name; give one after 1970 that is valid`);
  }
  return seconds;
}

/** The name under which the file is saved. */
export function readFilename(value) {
  checkString('filename', value);
  const refuse = (problem) => new MintError('filename', `filename ${quote(value)} ${problem}`);
  if (value === '') throw refuse('is empty; leave it out, or write a name such as `report.pdf`');
  if (byteLength(value) > 255) throw refuse(`has ${byteLength(value)} bytes; shorten it to 255`);
  if (/[/\\]/.test(value)) throw refuse('holds `/` or `\\`; give the name alone, without its folder');
  if (CONTROL.test(value)) throw refuse('holds a control character; give the name without it');
  if (DIRECTION.test(value)) throw refuse('holds a character that turns the direction of text or breaks the line; leave it out');
  if (value === '.' || value === '..') throw refuse('names a folder; write a name such as `report.pdf`');
  return value;
}

/** `attachment` or `inline`. */
export function readDisposition(value) {
  checkString('disposition', value);
  if (value !== 'attachment' && value !== 'inline') {
    throw new MintError('disposition', `disposition ${quote(value)} is unknown; write \`attachment\` or \`inline\``);
  }
  return value;
}

/** The link's id, for revocation and audit. */
export function readId(value) {
  checkString('id', value);
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(value)) {
    const rule = '1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`';
    throw new MintError('id', `id ${quote(value)} is no link id; write ${rule}`);
  }
  return value;
}

/** The client's address or network: rule 2.6. */
export function readIp(value) {
  checkString('ip', value);
  const refuse = (problem) => new MintError('ip', `ip ${quote(value)} ${problem}`);
  const [address, length] = value.split(/\/(.*)/s);
  const bits = addressBits(address);
  if (bits === undefined) {
    throw refuse('is no IPv4 or IPv6 address; write one such as `203.0.113.7`, or a network such as `203.0.113.0/24`');
  }
  const prefix = length === undefined ? bits.length : Number(length);
  if (length !== undefined && !(/^(0|[1-9][0-9]{0,2})$/.test(length) && prefix <= bits.length)) {
    throw refuse(`has a prefix length that is none; write a number from 0 to ${bits.length}, without leading zeros`);
  }
  if (bits.slice(prefix).includes('1')) throw refuse('has host bits that are not zero; write the first address of the network');
  if (/^0{80}1{16}/.test(bits) && bits.length === 128) throw refuse('is an IPv4-mapped IPv6 address; write the IPv4 address');
  return value;
}

/** An address as its 32 or 128 bits, or undefined. */
function addressBits(text) {
  const binary = (number, width) => number.toString(2).padStart(width, '0');
  if (IPV4.test(text)) return text.split('.').map((part) => binary(Number(part), 8)).join('');
  // Chromium's parser takes leading zeros in the IPv4 part of an IPv6 address.
  const last = text.slice(text.lastIndexOf(':') + 1);
  if (!/^[0-9A-Fa-f:.]+$/.test(text) || (last.includes('.') && !IPV4.test(last))) return undefined;
  let host;
  try {
    host = new URL(`http://[${text}]/`).hostname.slice(1, -1); // RFC 5952: eight groups but for one `::`
  } catch {
    return undefined;
  }
  const [head, tail] = host.split('::').map((half) => half.split(':').filter(Boolean));
  const zeros = tail === undefined ? [] : Array(8 - head.length - tail.length).fill('0');
  return [...head, ...zeros, ...(tail ?? [])].map((group) => binary(parseInt(group, 16), 16)).join('');
}

/** Refuses names that nobody knows, since a misspelt option would silently have no effect. */
export function checkNames(given, known, what) {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const plain = (text) => text.toLowerCase().replace(/[^a-z]/g, '');
    const near = known.find((other) => plain(other) === plain(name))
      ?? known.find((other) => distance(plain(other), plain(name)) <= 2);
    const hint = near ? `did you mean \`${near}\`?` : `the ${what} are ${known.map((other) => `\`${other}\``).join(', ')}`;
    throw new MintError(name, `there is no option ${quote(name)}; ${hint}`);
  }
}

/** How many letters to change, add or leave out to get from one word to the other (Levenshtein). */
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
