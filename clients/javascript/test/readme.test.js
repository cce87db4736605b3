// The README's recipes, taken out of it and run: what they make is what the gateway accepts.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const GATEWAY = process.env.SLUICEGATE_BINARY;
const SECRET = 'sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG';

/** The README's code in one language. */
function blocks(language) {
  const all = [...README.matchAll(/^```(\w+)\n(.*?)^```/gms)];
  return all.filter(([, name]) => name === language).map(([, , code]) => code);
}

/** A folder with the package and jose to import, a policy as the README writes it, and both keys. */
function workplace(t) {
  const folder = mkdtempSync(join(tmpdir(), 'sluicegate-readme-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(new URL('../package.json', import.meta.url), join(folder, 'package.json'));
  for (const name of ['src', 'node_modules']) symlinkSync(new URL(`../${name}`, import.meta.url), join(folder, name));
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(join(folder, 'token.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(join(folder, 'token.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
  writeFileSync(join(folder, 'token.secret'), SECRET);
  writeFileSync(join(folder, 'acme-1.secret'), `${SECRET}-link`);
  const [issuers] = blocks('toml');
  writeFileSync(join(folder, 'acme.toml'), `tenant = "acme"
[[keys]]
id = "acme-1"
secret = "file:acme-1.secret"
[[allow]]
host = "files.example.com"
${issuers}`);
  return folder;
}

/** Runs code of the README and gives what it prints in the end. */
function run(folder, code, shown) {
  const env = { PATH: process.env.PATH, TOKEN_SECRET: SECRET, ACME_SECRET: `${SECRET}-link` };
  const program = ['--input-type=module', '-e', `${code}\nconsole.log(${shown});`];
  return execFileSync(process.execPath, program, { cwd: folder, env, encoding: 'utf8' }).trim().split('\n').at(-1);
}

/** What the gateway says of a link, with a token in the header if one is given. */
function explain(folder, link, token) {
  const extra = [];
  if (token) {
    writeFileSync(join(folder, 'token'), token);
    extra.push('--token-file', join(folder, 'token'));
  }
  return JSON.parse(execFileSync(GATEWAY, ['explain', '--json', '--policy', folder, ...extra, link], { encoding: 'utf8' }));
}

test('the recipes make tokens and a link that are well formed', (t) => {
  const folder = workplace(t);
  const [mint] = blocks('js');
  assert.match(run(folder, mint, 'minted.link'), /^https:\/\/downloads\.example\.com\/\?url=/);
  const recipes = blocks('js').filter((code) => code.includes("from 'jose'"));
  assert.equal(recipes.length, 2);
  for (const recipe of recipes) {
    const parts = run(folder, recipe, 'token').split('.').slice(0, 2);
    const [header, claims] = parts.map((part) => JSON.parse(Buffer.from(part, 'base64url')));
    assert.deepEqual(Object.keys(header).sort(), ['alg', 'kid']);
    assert.deepEqual(Object.keys(claims).sort(), ['aud', 'exp', 'filename', 'iss', 'url']);
  }
});

test('the gateway accepts them', { skip: !GATEWAY && 'SLUICEGATE_BINARY names no gateway' }, (t) => {
  const folder = workplace(t);
  const [mint] = blocks('js');
  assert.equal(explain(folder, run(folder, mint, 'minted.link')).passes, true);
  for (const recipe of blocks('js').filter((code) => code.includes("from 'jose'"))) {
    const token = run(folder, recipe, 'token');
    assert.equal(explain(folder, `https://downloads.example.com/?token=${token}`).passes, true);
    assert.equal(explain(folder, 'https://downloads.example.com/?', token).passes, true);
  }
});
