// What the environment says, with the demo of `cargo run` as the default, and what is missing said in words.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { MintError, Signer } from '../../clients/javascript/src/index.js';

const CHECKOUT = new URL('../../', import.meta.url);

/** The signer, the gateway's origin and where to listen. Throws an Error that says what to do. */
export function readSettings(environment) {
  const base = environment.SLUICEGATE_BASE ?? 'http://127.0.0.1:8080';
  const kid = environment.SLUICEGATE_KID ?? 'demo';
  const secret = readSecret(environment.SLUICEGATE_SECRET_FILE);
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(environment.LISTEN ?? '127.0.0.1:3000') ?? [];
  if (!host || port > 65535) throw new Error(`LISTEN \`${environment.LISTEN}\` is no address; write one such as \`127.0.0.1:3000\``);
  try {
    const signer = new Signer({ base, kid, secret });
    return { signer, gateway: new URL(signer.base).origin, host, port: Number(port) };
  } catch (error) {
    if (!(error instanceof MintError)) throw error;
    const variable = { base: 'SLUICEGATE_BASE', kid: 'SLUICEGATE_KID', secret: 'SLUICEGATE_SECRET_FILE' }[error.parameter];
    throw new Error(`${variable}: ${error.message}`);
  }
}

function readSecret(file) {
  const path = file ?? fileURLToPath(new URL('policy/demo.secret', CHECKOUT));
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    if (error.code === 'ENOENT' && file === undefined) {
      throw new Error('the secret `policy/demo.secret` is not there; start the demo first: cargo run');
    }
    const advice = "set SLUICEGATE_SECRET_FILE to the file of the key's secret";
    throw new Error(`the secret \`${path}\` cannot be read (${error.code}); ${advice}`);
  }
}
