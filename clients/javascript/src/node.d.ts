// Types of the Node entry.

import type { DownloadOptions } from './download.js';

export * from './download.js';

/** How to download into a file. */
export interface FileOptions extends Omit<DownloadOptions, 'from' | 'hash'> {
  /** Replace a file that is there already; else that is an error with the code `file_exists`. */
  overwrite?: boolean;
}

/** A file that is there, whole. */
export interface DownloadedFile {
  /** Where it is. */
  readonly path: string;
  /** The name that the server gave it, as it came. */
  readonly filename: string | undefined;
  readonly type: string;
  /** Its length in bytes. */
  readonly total: number;
  /** The SHA-256 digest that the server announced and the file has. */
  readonly digest: string | undefined;
}

/**
 * Downloads into `target`, a folder that is there, or a file's path in one; any other is a TypeError. Until the file is
 * whole it is `<name>.part`, which a later call goes on with, also in another process, if it is of the same file. What
 * nothing can prove to be whole (see `checked`) is refused as `incomplete`, a content coding as `unexpected_answer`; a
 * `sha256` makes both good. A `.part` or `.part.json` of anybody else is `file_exists`, and stays as it is.
 */
export function downloadToFile(link: string | URL, target: string, options?: FileOptions): Promise<DownloadedFile>;

/** A name that is safe in a folder on every system, whatever the server says. */
export function safeName(given: string | undefined): string;
