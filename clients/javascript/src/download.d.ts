// Types of the download helper.

/** Something that digests bytes, such as `createHash('sha256')` of node:crypto. */
export interface Hasher {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array | Promise<Uint8Array>;
}

/** How much has come. `total` is absent where the server does not say. */
export interface Progress {
  received: number;
  total: number | undefined;
}

/** How to download. Times are seconds. */
export interface DownloadOptions {
  /** Ends the download. */
  signal?: AbortSignal;
  /** Called for each chunk. */
  onProgress?: (progress: Progress) => void;
  /** The SHA-256 digest that the file must have, in hex. */
  sha256?: string;
  /** Makes what digests the file on its way; without it, only `blob()` checks digests. It begins behind `from.received` bytes. */
  hash?: () => Hasher | Promise<Hasher>;
  /** Header fields to send, such as `x-sluicegate-token`. Redirects are then not followed. */
  headers?: HeadersInit;
  /** How many attempts in a row may bring nothing; 5. */
  attempts?: number;
  /** The first wait between two attempts; 0.5, doubled each time up to 30, each shortened at random by up to half. */
  backoff?: number;
  /** How long nothing may come before the request counts as broken; 60. */
  idleTimeout?: number;
  /** The longest `Retry-After` that is waited for; 60. */
  maxWait?: number;
  /** What is here already, and its strong ETag. The stream begins behind it. */
  from?: { received: number; etag: string };
  /** In place of the global fetch. */
  fetch?: (request: Request) => Promise<Response>;
}

/** A download whose head is there. */
export interface Download {
  /** The name that the server gives the file. It comes from outside: never use it as a path as it is. */
  readonly filename: string | undefined;
  /** The content type. */
  readonly type: string;
  /** The whole length in bytes. */
  readonly total: number | undefined;
  /** The strong ETag, which a later `from` needs. */
  readonly etag: string | undefined;
  /** The SHA-256 digest in hex that the server announced (Repr-Digest). */
  readonly digest: string | undefined;
  /** The content coding, such as `gzip`, that fetch undid. Length and digest are then not those of the file. */
  readonly coding: string | undefined;
  /**
   * What can prove that the file came whole: its length, its digest (in `blob()`, or with `hash`), or the last chunk of
   * a kept connection. `undefined`: nothing that can be seen here, and some runtimes take a broken connection for the
   * end; give `sha256`. A resumed download may change it: read it again at the end.
   */
  readonly checked: 'length' | 'digest' | 'framing' | undefined;
  /** The bytes. It ends in an error unless the file came whole, as far as `checked` can tell. */
  readonly stream: ReadableStream<Uint8Array>;
  /** The whole file, its digest checked if one is known. In a page over plain http only a `sha256` of your own is insisted on. */
  blob(): Promise<Blob>;
}

/** Begins a download; resolves when the head is there. */
export function download(link: string | URL, options?: DownloadOptions): Promise<Download>;

/**
 * Why a download did not come whole. `code` is that of the problem document for a refusal, `http_` and the status where
 * there is none, else `unreachable`, `untrusted_certificate`, `incomplete`, `file_changed`, `length_mismatch`,
 * `digest_mismatch`, `unexpected_answer`, and in files `file_exists` or `busy`: clients/README.md has what they mean.
 */
export class DownloadError extends Error {
  constructor(code: string, message: string, more?: { status?: number; detail?: string; requestId?: string; retryAfter?: number; cause?: unknown });
  readonly code: string;
  readonly status: number | undefined;
  readonly detail: string | undefined;
  readonly requestId: string | undefined;
  /** Seconds. */
  readonly retryAfter: number | undefined;
}
