// Signs links: the same canonical string as the gateway's (docs/link-format.md, section 3), with WebCrypto alone.

import {
  LATEST, MintError, checkNames, quote, readBase, readDisposition, readFilename, readId, readIp, readKid, readMoment,
  readSeconds, readSecret, readUrl,
} from './rules.js';

const SIGNER_OPTIONS = ['base', 'kid', 'secret', 'now'];
const MINT_OPTIONS = ['url', 'expiresIn', 'exp', 'alignTo', 'notBefore', 'filename', 'disposition', 'id', 'ip'];
const ORDER = ['url', 'kid', 'exp', 'nbf', 'filename', 'disposition', 'id', 'ip', 'sig'];
const ONE_HOUR = 3600;
const utf8 = new TextEncoder();

/** A signed link and what was signed. As text, it is its link. */
export class Minted {
  constructor(parts) {
    Object.assign(this, parts);
    Object.freeze(this);
  }

  toString() {
    return this.link;
  }
}

/** Mints links for one gateway with one key. Make it once and keep it. */
export class Signer {
  #secret;
  #key;
  #now;

  constructor(given) {
    checkObject(given, 'give `new Signer({ base, kid, secret })` its options');
    checkNames(given, SIGNER_OPTIONS, 'options of a signer');
    const options = own(given);
    for (const name of ['base', 'kid', 'secret']) {
      if (options[name] === undefined) {
        throw new MintError(name, `${name} is missing; give \`new Signer({ base, kid, secret })\` all three`);
      }
    }
    if (options.now !== undefined && typeof options.now !== 'function') {
      throw new MintError('now', 'now is no function; give one that returns Unix seconds, or leave it out');
    }
    // First, so that no error can quote a secret that stands in another's place.
    this.#secret = readSecret(options.secret);
    for (const name of ['base', 'kid']) {
      if (String(options[name]).includes(options.secret)) {
        throw new MintError(name, `${name} holds the secret; give that as \`secret\` alone`);
      }
    }
    this.base = readBase(options.base);
    this.kid = readKid(options.kid);
    this.#now = options.now ?? (() => Date.now() / 1000);
    Object.freeze(this);
  }

  /** Signs one link. */
  async mint(given) {
    checkObject(given, 'give `mint({ url })` its options');
    checkNames(given, MINT_OPTIONS, 'options of a link');
    const options = own(given);
    const exp = this.#end(options);
    const values = own({ url: readUrl(options.url), kid: this.kid, exp: String(exp) });
    if (options.notBefore !== undefined) values.nbf = String(readMoment('notBefore', options.notBefore));
    if (options.filename !== undefined) values.filename = readFilename(options.filename);
    if (options.disposition !== undefined) values.disposition = readDisposition(options.disposition);
    if (options.id !== undefined) values.id = readId(options.id);
    if (options.ip !== undefined) values.ip = readIp(options.ip);
    const lines = Object.keys(values).sort().map((name) => `${name}=${values[name]}\n`);
    const stringToSign = `sluicegate-link-v1\n${lines.join('')}`;
    // Every signature has 43 characters, so the length is known before anything is signed.
    const length = encode(own({ ...values, sig: 'x'.repeat(43) })).length;
    if (length > 8192) {
      throw new MintError('url', `url makes a query of ${length} bytes, and a gateway reads 8192; give a shorter one`);
    }
    const signature = await this.#sign(stringToSign);
    const query = encode(own({ ...values, sig: signature }));
    return new Minted({ link: `${this.base}?${query}`, query, stringToSign, signature, exp });
  }

  /** When the link ends: clients/README.md, `align_to`. */
  #end({ exp, expiresIn, alignTo }) {
    if (exp !== undefined && expiresIn !== undefined) {
      throw new MintError('exp', 'exp and expiresIn exclude each other; give one of them');
    }
    let end;
    if (exp !== undefined) {
      end = readMoment('exp', exp);
    } else {
      const seconds = readSeconds('expiresIn', expiresIn === undefined ? ONE_HOUR : expiresIn, 1, LATEST);
      end = readSeconds('now', Math.floor(this.#now()), 0, LATEST) + seconds;
      if (end > LATEST) {
        throw new MintError('expiresIn', `expiresIn ${quote(seconds)} ends beyond the last moment, ${LATEST}; give fewer seconds`);
      }
    }
    if (alignTo === undefined) return end;
    const span = readSeconds('alignTo', alignTo, 1, LATEST);
    end += (span - (end % span)) % span;
    if (end > LATEST) {
      throw new MintError('alignTo', `alignTo ${quote(span)} moves the end beyond the last moment, ${LATEST}; give fewer seconds`);
    }
    return end;
  }

  async #sign(text) {
    const subtle = globalThis.crypto?.subtle;
    if (!subtle) throw new Error('there is no WebCrypto here; use Node 20 or later, or a page served over https');
    if (!this.#key) {
      // The key and not its promise is kept: Workers do not let one request wait for another's.
      const secret = this.#secret;
      this.#key = await subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
      this.#secret = undefined;
    }
    return base64url(new Uint8Array(await subtle.sign('HMAC', this.#key, utf8.encode(text))));
  }
}

function checkObject(options, advice) {
  if (typeof options !== 'object' || options === null) throw new MintError('options', `options are missing; ${advice}`);
}

/** What was given and nothing else: whatever a page put into `Object.prototype` is no option. */
const own = (given) => ({ __proto__: null, ...given });

/** The query in the order of the specification, everything escaped but the unreserved characters (RFC 3986 section 2.3). */
function encode(values) {
  const escape = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return ORDER.filter((name) => values[name] !== undefined).map((name) => `${name}=${escape(values[name])}`).join('&');
}

/** RFC 4648 section 5, without padding. */
function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
