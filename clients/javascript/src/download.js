// Downloads a link with fetch and web streams: resumed where the transfer broke, length and digest checked, so that a
// file arrives whole or the stream ends in an error. One file without imports: a page can carry it as it is.

/** Why a download did not come whole, or was refused. For a refusal the fields are those of the problem document. */
export class DownloadError extends Error {
  constructor(code, message, { status, detail, requestId, retryAfter, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DownloadError';
    Object.assign(this, { code, status, detail, requestId, retryAfter });
  }
}

const DEFAULTS = { attempts: 5, backoff: 0.5, idleTimeout: 60, maxWait: 60 };
const OPTIONS = [...Object.keys(DEFAULTS), 'signal', 'onProgress', 'sha256', 'hash', 'headers', 'from', 'fetch'];
const LONGEST_BACKOFF = 30;
const LONGEST_PROBLEM = 65_536;
/** Codes after which another attempt may bring more. */
const BROKEN = ['unreachable', 'incomplete'];
const BAD_CERTIFICATE = /CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE/; // as Node's codes say it; a page is not told
/** Seconds for a timer, which cannot run longer than 2^31 - 1 milliseconds and would end at once. */
const milliseconds = (seconds) => Math.min(seconds * 1000, 2 ** 31 - 1);

/** Begins a download; resolves when the head is there. */
export async function download(link, options = {}) {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  for (const [name, value] of Object.entries(given)) {
    if (!OPTIONS.includes(name)) throw new TypeError(`there is no option \`${name}\`; the options are ${OPTIONS.join(', ')}`);
    if (name in DEFAULTS && !(typeof value === 'number' && value >= 0)) {
      throw new TypeError(`${name} \`${value}\` is no number from 0 on; give one, or leave it out`);
    }
  }
  if (options.sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(options.sha256)) {
    throw new TypeError('sha256 is no digest; give 64 hex digits');
  }
  const page = globalThis.location?.href;
  // fetch would quote a bad link whole, with its signature.
  if (!URL.canParse(link, page) || !/^https?:$/.test(new URL(link, page).protocol)) {
    throw new TypeError('the link is no http or https URL; give it as it was minted');
  }
  new Headers(options.headers); // throws now, not at every attempt
  return new Transfer(String(link), { ...DEFAULTS, ...given }).begin();
}

const fault = (code, message, cause) => new DownloadError(code, message, { cause });
const changed = () => fault('file_changed', 'the file changed while it was downloaded; start again');
const wrongLength = (received, total) =>
  fault('length_mismatch', `got ${received} bytes where ${total} were announced; start again`);
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** What lies behind a fault, such as ECONNREFUSED. A text that may quote the link is left out. */
function causeOf(error) {
  let inner = error;
  for (let depth = 0; depth < 9 && inner?.cause; depth += 1) inner = inner.cause;
  if (typeof inner?.code === 'string' && !BROKEN.includes(inner.code)) return inner.code;
  const text = String(inner?.message ?? inner).replace(/\p{C}/gu, ' ').trim();
  return text === '' || /[?=&]|:\/\//.test(text) ? 'the connection failed' : text.slice(0, 200);
}

/** One file on its way, over as many requests as it takes. */
class Transfer {
  #link; #options; #head; #etag; #reader; #hasher;
  #received = 0; #skip = 0; #failures = 0;
  #abort = new AbortController();
  #onAbort = () => this.#abort.abort(this.#options.signal.reason);

  constructor(link, options) {
    [this.#link, this.#options] = [link, options];
    ({ received: this.#received = 0, etag: this.#etag } = options.from ?? {});
  }

  async begin() {
    const { signal, sha256, hash } = this.#options;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    try {
      await this.#open();
      const expected = sha256?.toLowerCase() ?? this.#head.digest;
      if (hash && expected) this.#hasher = await hash();
    } catch (error) {
      this.#stop(error);
      throw error;
    }
    const { filename, type, total, digest, coding } = this.#head;
    const checked = () => this.#proof();
    const stream = new ReadableStream({
      pull: (controller) => this.#pull(controller),
      cancel: (reason) => this.#stop(reason),
    }, { highWaterMark: 0 });
    return {
      filename, type, total, etag: this.#etag, digest, coding,
      get checked() { return checked(); },
      get stream() {
        if (sha256 && !hash) throw new TypeError('a stream is checked against sha256 only with `hash`; give it, or use blob()');
        return stream;
      },
      blob: () => this.#blob(stream),
    };
  }

  /** What can prove that the body's end is the file's. A later answer may say less than the first. */
  #proof() {
    if (this.#head.total !== undefined) return 'length';
    const { sha256, hash } = this.#options;
    if (sha256 || (this.#head.digest && (hash || globalThis.crypto?.subtle))) return 'digest';
    return this.#head.chunked && !this.#head.coding ? 'framing' : undefined;
  }

  async #blob(stream) {
    const parts = [];
    const reader = stream.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) parts.push(next.value);
    const blob = new Blob(parts, { type: this.#head.type });
    const { sha256 } = this.#options;
    if (this.#hasher || !(sha256 ?? this.#head.digest)) return blob;
    const subtle = globalThis.crypto?.subtle; // absent in pages that came over plain http
    if (sha256 && !subtle) throw new TypeError('sha256 cannot be checked without WebCrypto; serve this page over https');
    if (subtle) this.#checkDigest(new Uint8Array(await subtle.digest('SHA-256', await blob.arrayBuffer())));
    return blob;
  }

  /** Asks for the file from `received` on, until a body is open or too many attempts in a row brought nothing. */
  async #open() {
    for (;;) {
      try {
        this.#options.signal?.throwIfAborted();
        await this.#accept(await this.#request());
        return;
      } catch (error) {
        await this.#pause(error);
      }
    }
  }

  /** Waits before the next attempt; throws what no further attempt can mend. */
  async #pause(error) {
    const { signal, attempts, backoff, maxWait } = this.#options;
    if (signal?.aborted) throw signal.reason;
    const known = error instanceof DownloadError;
    const broken = !known || (BROKEN.includes(error.code) && error.status === undefined);
    const passing = broken || [429, 503].includes(error.status)
      || (this.#received > 0 && [502, 504].includes(error.status));
    this.#failures += 1;
    const wait = known ? error.retryAfter : undefined;
    if (!passing || wait > maxWait || this.#failures >= attempts) {
      if (!broken) throw error;
      const code = known ? error.code : 'incomplete';
      const what = code === 'unreachable' ? 'there is no answer from the server' : `the transfer stopped at ${this.#received} bytes`;
      const tried = `${attempts} ${attempts === 1 ? 'attempt' : 'attempts in a row'} brought nothing`;
      throw fault(code, `${what} (${causeOf(error)}), and ${tried}; try again later`, error);
    }
    const pause = wait ?? Math.min(LONGEST_BACKOFF, backoff * 2 ** (this.#failures - 1)) * (0.5 + Math.random() / 2);
    await sleep(pause, signal);
  }

  #request() {
    const headers = new Headers(this.#options.headers);
    if (this.#received > 0) {
      headers.set('range', `bytes=${this.#received}-`);
      headers.set('if-range', this.#etag);
    }
    this.#abort = new AbortController();
    const fetch = this.#options.fetch ?? globalThis.fetch;
    // A token in a header of one's own must not follow a redirect to another host.
    const redirect = this.#options.headers ? 'manual' : 'follow';
    const request = new Request(this.#link, { headers, redirect, signal: this.#abort.signal });
    return this.#inTime(fetch(request), 'unreachable').catch((error) => {
      if (error instanceof DownloadError) throw error;
      const cause = causeOf(error);
      if (!BAD_CERTIFICATE.test(cause)) throw fault('unreachable', `there is no answer from the server: ${cause}`, error);
      throw fault('untrusted_certificate', `the server's certificate is not trusted: ${cause}`, error);
    });
  }

  /** Judges an answer; afterwards its body is the one to read. */
  async #accept(response) {
    const { status } = response;
    if (status !== 200 && status !== 206) throw await this.#refusal(response);
    const head = readHead(response);
    const resumed = this.#received > 0;
    if (resumed && (head.etag === undefined || head.etag !== this.#etag || head.coding)) throw changed();
    const first = this.#head ?? head;
    if (head.etag !== first.etag || head.coding !== first.coding || (head.total ?? first.total) !== first.total) throw changed();
    if (status === 206 && !(resumed && head.part?.[0] === this.#received && head.part[1] === head.total - 1)) {
      throw fault('unexpected_answer', 'the server sent another part of the file than it was asked for; start again');
    }
    // Some servers answer a range with the whole file, AWS Lambda for one: what is here already is passed over.
    this.#skip = status === 200 ? this.#received : 0;
    this.#etag = head.etag;
    this.#head = { ...first, framed: head.framed, chunked: head.chunked };
    this.#reader = response.body?.getReader();
  }

  async #pull(controller) {
    try {
      for (;;) {
        const chunk = await this.#read();
        if (chunk === undefined && await this.#finish()) return controller.close();
        const fresh = chunk && this.#fresh(chunk);
        if (!fresh?.length) continue;
        this.#failures = 0;
        await this.#hasher?.update(fresh);
        controller.enqueue(fresh);
        this.#options.onProgress?.({ received: this.#received, total: this.#head.total });
        return undefined;
      }
    } catch (error) {
      this.#stop(error);
      throw error;
    }
  }

  /** What of a chunk is new. Bytes beyond the announced length are never handed out. */
  #fresh(chunk) {
    const old = Math.min(this.#skip, chunk.length);
    this.#skip -= old;
    this.#received += chunk.length - old;
    if (this.#received > this.#head.total) throw wrongLength(this.#received, this.#head.total);
    return chunk.subarray(old);
  }

  /** The body has ended. Is the file whole? */
  async #finish() {
    const { total, framed } = this.#head;
    if (total !== undefined && this.#received < total) {
      // A body of `Content-Length` ends early without an error only if a coding was undone that this page cannot see.
      if (framed && this.#skip === 0) throw wrongLength(this.#received, total);
      await this.#reopen(new Error('the body ended early'));
      return false;
    }
    if (this.#skip > 0) throw changed();
    if (this.#hasher) this.#checkDigest(await this.#hasher.digest());
    this.#stop();
    return true;
  }

  async #reopen(error) {
    const stuck = this.#received > 0 && (this.#etag === undefined || this.#head.coding);
    if (stuck && !this.#options.signal?.aborted) {
      const what = `the transfer broke after ${this.#received} bytes (${causeOf(error)}) and cannot be resumed`;
      throw fault('incomplete', `${what}; start again`, error);
    }
    await this.#pause(error);
    await this.#open();
  }

  /** The next chunk, from another request if this one breaks; undefined at the end. */
  async #read() {
    for (;;) {
      try {
        return this.#reader && (await this.#inTime(this.#reader.read())).value;
      } catch (error) {
        this.#reader.cancel().catch(() => {}); // it may only be silent
        if (this.#received === this.#head.total) return undefined; // it broke after its last byte
        await this.#reopen(error);
      }
    }
  }

  /** Ends the request if nothing comes for so long. */
  #inTime(promise, code = 'incomplete') {
    const { idleTimeout } = this.#options;
    const abort = this.#abort;
    const late = () => abort.abort(fault(code, `nothing came for ${idleTimeout} seconds`));
    const timer = setTimeout(late, milliseconds(idleTimeout));
    let stop;
    // Node's fetch forgets its signal when memory is collected, so the signal is listened to here too.
    const stopped = new Promise((resolve, reject) => {
      stop = () => reject(abort.signal.reason);
      if (abort.signal.aborted) stop();
      abort.signal.addEventListener('abort', stop);
    });
    return Promise.race([promise, stopped]).finally(() => {
      clearTimeout(timer);
      abort.signal.removeEventListener('abort', stop);
    });
  }

  /** A refusal, from its problem document (RFC 9457) if it has one. */
  async #refusal(response) {
    const { status, headers } = response;
    // Whatever stands in front of the gateway may answer in another form.
    const problem = Object(await this.#problem(response.body?.getReader()));
    const text = (value) => (typeof value === 'string' ? value : undefined);
    const code = text(problem.code) ?? (response.type === 'opaqueredirect' ? 'fetch_directly' : `http_${status}`);
    const detail = text(problem.detail);
    const requestId = text(problem.request_id) ?? headers.get('x-request-id') ?? undefined;
    const why = detail ?? text(problem.title) ?? 'the answer does not say why';
    return new DownloadError(code, `the download was refused with status ${status} (\`${code}\`): ${why}`,
      { status, detail, requestId, retryAfter: retryAfter(headers.get('retry-after')) });
  }

  /** The JSON of a refusal, if it is short. All of the reading together may take no longer than `idleTimeout`. */
  async #problem(reader) {
    const decoder = new TextDecoder();
    const read = async () => {
      let [text, length] = ['', 0];
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        length += next.value.length;
        if (length > LONGEST_PROBLEM) return undefined;
        text += decoder.decode(next.value, { stream: true });
      }
      return JSON.parse(text + decoder.decode());
    };
    try {
      return reader && await this.#inTime(read());
    } catch {
      return undefined; // the status tells enough
    } finally {
      reader?.cancel().catch(() => {});
    }
  }

  #checkDigest(bytes) {
    const found = hex(bytes);
    for (const expected of [this.#options.sha256?.toLowerCase(), this.#head.digest]) {
      if (!expected || expected === found) continue;
      throw fault('digest_mismatch', `the file's SHA-256 digest is ${found}, not ${expected}; start again`);
    }
  }

  #stop(reason) {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#abort.abort(reason);
    this.#reader?.cancel(reason).catch(() => {});
  }
}

/** What an answer says about the whole file, and a part about its place. */
function readHead({ status, headers }) {
  const field = (name) => headers.get(name) ?? '';
  const number = (value) => (/^\d{1,15}$/.test(value) ? Number(value) : undefined);
  // fetch undoes a coding, but length and digest are those of the coded form (RFC 9110 section 8.6, RFC 9530 section 3).
  const coding = /^(identity)?$/i.test(field('content-encoding')) ? undefined : field('content-encoding');
  const whole = number(field('x-sluicegate-length')) ?? (status === 200 ? number(field('content-length')) : undefined);
  const range = status === 206 ? /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/i.exec(field('content-range')) : null;
  const part = range?.slice(1).map(Number);
  const digest = /(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):/.exec(field('repr-digest'))?.[1];
  return {
    coding,
    // Node takes an end of the connection for the last chunk, unless the connection was to be kept (RFC 9112 section 8).
    chunked: /^chunked$/i.test(field('transfer-encoding')) && !headers.has('proxy-connection')
      && /^(keep-alive)?$/i.test(field('connection')),
    // Only a strong tag tells that two answers have the same bytes (RFC 9110 section 8.8.3).
    etag: /^"[\x21\x23-\x7e\x80-\xff]*"$/.exec(field('etag'))?.[0],
    framed: headers.has('content-length'),
    part,
    total: coding ? undefined : part?.[2] ?? whole,
    digest: coding || !digest ? undefined : hex(Uint8Array.from(atob(digest), (c) => c.charCodeAt(0))),
    filename: fileName(field('content-disposition')),
    type: field('content-type'),
  };
}

/** The name in a Content-Disposition: `filename*` first (RFC 6266 section 4.3, RFC 8187). It comes from outside. */
function fileName(value) {
  const found = {};
  for (const [, name, text] of value.matchAll(/;\s*([A-Za-z*]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)/g)) {
    found[name.toLowerCase()] ??= text;
  }
  const extended = /^utf-8'[^']*'(.*)$/i.exec(found['filename*'] ?? '')?.[1];
  try {
    if (extended) return decodeURIComponent(extended);
  } catch {
    // The plain form may still be readable.
  }
  return found.filename?.replace(/^"(.*)"$/s, '$1').replace(/\\(.)/gs, '$1') || undefined;
}

/** Seconds to wait, from seconds or a date (RFC 9110 section 10.2.3). */
function retryAfter(value) {
  if (/^\d{1,9}$/.test(value ?? '')) return Number(value);
  const date = Date.parse(value ?? '');
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - Date.now()) / 1000));
}

const sleep = (seconds, signal) => new Promise((resolve, reject) => {
  const stop = () => { clearTimeout(timer); reject(signal.reason); };
  const timer = setTimeout(() => { signal?.removeEventListener('abort', stop); resolve(); }, milliseconds(seconds));
  signal?.addEventListener('abort', stop, { once: true });
});
