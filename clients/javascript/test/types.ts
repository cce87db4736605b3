// Uses the API as it is meant, and as it is not: `tsc` fails where the types allow too little or too much.

import { createHash } from 'node:crypto';

import { MintError, Minted, Signer, type MintOptions, type SignerOptions } from 'sluicegate';
import { DownloadError, download, type Download, type DownloadOptions } from 'sluicegate/download';
import { downloadToFile, safeName, type DownloadedFile } from 'sluicegate/node';

const options: SignerOptions = { base: 'https://gateway.example', kid: 'k', secret: 's', now: () => 5 };
const signer = new Signer(options);
const wishes: MintOptions = { url: 'https://files.example/a', expiresIn: 5, alignTo: 300, notBefore: new Date(), filename: 'a', disposition: 'inline', id: 'i', ip: '::1' };

export async function rightly(): Promise<void> {
  const minted: Minted = await signer.mint(wishes);
  const texts: string[] = [minted.link, minted.query, minted.stringToSign, minted.signature, `${minted}`, signer.kid, signer.base];
  const exp: number = (await signer.mint({ url: texts[0] ?? '', exp: new Date() })).exp;
  const more: DownloadOptions = { signal: new AbortController().signal, onProgress: ({ received, total }) => received / (total ?? exp), hash: () => createHash('sha256') };
  const file: Download = await download(minted.link, more);
  const proof: 'length' | 'digest' | 'framing' | undefined = file.checked ?? (file.coding ? undefined : 'digest');
  const blob: Blob = await file.blob();
  const stream: ReadableStream<Uint8Array> = file.stream;
  const saved: DownloadedFile = await downloadToFile(new URL(minted.link), 'folder', { overwrite: true, attempts: blob.size });
  await stream.cancel(safeName(saved.filename ?? proof));
}

export function errors(error: unknown): string | number | undefined {
  if (error instanceof MintError) return error.parameter;
  if (error instanceof DownloadError) return error.status ?? error.retryAfter ?? error.code;
  return undefined;
}

export async function wrongly(): Promise<void> {
  // @ts-expect-error kid and secret are missing
  new Signer({ base: 'https://gateway.example' });
  // @ts-expect-error a url is required
  await signer.mint({});
  // @ts-expect-error times are numbers
  await signer.mint({ url: '', expiresIn: '1h' });
  // @ts-expect-error no such disposition
  await signer.mint({ url: '', disposition: 'form-data' });
  // @ts-expect-error no such option
  await signer.mint({ url: '', file_name: 'a' });
  // @ts-expect-error mint is asynchronous
  (signer.mint(wishes)).link;
  // @ts-expect-error the secret cannot be read
  signer.secret;
  // @ts-expect-error what is minted stays
  (await signer.mint(wishes)).link = '';
  // @ts-expect-error there may be no name
  const name: string = (await download('')).filename;
  // @ts-expect-error downloadToFile sets `from`
  await downloadToFile('', name, { from: { received: 5, etag: '""' } });
}
