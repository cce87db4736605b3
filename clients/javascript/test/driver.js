// Mints for tests/clients.rs: one JSON object a line on standard input, one JSON line in answer to each.

import { createInterface } from 'node:readline';

import { MintError, Signer } from 'sluicegate';

import { fromLibrary, toLibrary } from './names.js';

async function answer({ base, kid, secret, now, options }) {
  try {
    const signer = new Signer({ base, kid, secret, now: () => now });
    const { link, query, stringToSign, signature, exp } = await signer.mint(toLibrary(options));
    return { link, query, string_to_sign: stringToSign, signature, exp };
  } catch (error) {
    if (!(error instanceof MintError)) throw error;
    return { error: error.message, parameter: fromLibrary(error.parameter) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
