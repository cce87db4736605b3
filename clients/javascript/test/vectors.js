// The vectors of tests/vectors, judged by a Signer class that is passed in, so that a browser and other runtimes run the
// same code as Node. Gives the names of those that fail, each with the reason.

import { fromLibrary, toLibrary } from './names.js';

const BASE = 'https://gateway.example';
const NOW = 1800000000;

/** The secrets of keys.json by key id. */
export function secretsOf(keys) {
  return Object.fromEntries(keys.tenants.flatMap((tenant) => tenant.keys.map((key) => [key.kid, key.secret])));
}

/** What is signed, byte for byte. */
export async function mintFaults(Signer, secrets, { vectors }) {
  const faults = [];
  for (const { name, params, kid, string_to_sign, sig, query } of vectors) {
    const { exp, nbf, ...options } = params;
    if (nbf !== undefined) options.notBefore = Number(nbf);
    const minted = await new Signer({ base: BASE, kid, secret: secrets[kid] }).mint({ ...options, exp: Number(exp) });
    const same = minted.stringToSign === string_to_sign && minted.signature === sig && minted.query === query
      && minted.link === `${BASE}/?${query}` && `${minted}` === minted.link && minted.exp === Number(exp);
    if (!same) faults.push(`${name}: ${minted.stringToSign} ${minted.query}`);
  }
  return faults;
}

/** What is not signed, and which option is at fault. */
export async function refuseFaults(Signer, MintError, secrets, { vectors }) {
  const faults = [];
  for (const { name, kid, secret, secret_of, options, parameter } of vectors) {
    const given = secret ?? secrets[secret_of ?? kid];
    try {
      const minted = await new Signer({ base: BASE, kid, secret: given, now: () => NOW }).mint(toLibrary(options));
      faults.push(`${name}: signed as ${minted.query}`);
    } catch (error) {
      if (!(error instanceof MintError)) throw error;
      const whole = fromLibrary(error.parameter) === parameter && /^[a-z].*[^.]$/s.test(error.message)
        && !(given.length >= 10 && error.message.includes(given));
      if (!whole) faults.push(`${name}: ${error.parameter}: ${error.message}`);
    }
  }
  return faults;
}

/** When links end. */
export async function expiryFaults(Signer, secrets, { vectors }) {
  const faults = [];
  const kid = 'acme-active';
  for (const { name, now, expect, ...options } of vectors) {
    const signer = new Signer({ base: BASE, kid, secret: secrets[kid], now: () => now });
    const minted = await signer.mint({ url: 'https://files.example/a', ...toLibrary(options) });
    if (minted.exp !== expect || !minted.query.includes(`&exp=${expect}&`)) faults.push(`${name}: ${minted.exp}`);
  }
  return faults;
}
