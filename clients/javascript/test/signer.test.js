// What is signed, what is not, and that no text form shows a secret.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { MintError, Minted, Signer } from 'sluicegate';

import { expiryFaults, mintFaults, refuseFaults, secretsOf } from './vectors.js';

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), 'utf8'));
const secrets = secretsOf(vectors('keys'));
const SECRET = 'sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG';
const URL_ = 'https://files.example/a.pdf';
const signer = (more = {}) => new Signer({ base: 'https://gateway.example', kid: 'k', secret: SECRET, ...more });

/** The MintError that minting, or making the signer, ends in. */
async function refusal(options, more) {
  try {
    await signer(more).mint({ url: URL_, ...options });
  } catch (error) {
    assert.ok(error instanceof MintError, error);
    return error;
  }
  return assert.fail(`signed: ${inspect(options)} ${inspect(more)}`);
}

test('mint.json: signed byte for byte', async () => {
  assert.ok(vectors('mint').vectors.length > 40);
  assert.deepEqual(await mintFaults(Signer, secrets, vectors('mint')), []);
});

test('refuse.json: not signed, and the option at fault is named', async () => {
  assert.ok(vectors('refuse').vectors.length > 100);
  assert.deepEqual(await refuseFaults(Signer, MintError, secrets, vectors('refuse')), []);
});

test('expiry.json: when links end', async () => {
  assert.ok(vectors('expiry').vectors.length > 10);
  assert.deepEqual(await expiryFaults(Signer, secrets, vectors('expiry')), []);
});

test('a Date is its whole seconds', async () => {
  const minted = await signer().mint({ url: URL_, exp: new Date(1800003600999), notBefore: new Date(1800000000001) });
  assert.match(minted.query, /&exp=1800003600&nbf=1800000000&/);
  assert.equal((await refusal({ exp: new Date(NaN) })).parameter, 'exp');
  assert.equal((await refusal({ notBefore: new Date(-1) })).parameter, 'notBefore');
});

test('milliseconds are told as what they are', async () => {
  for (const name of ['exp', 'notBefore']) {
    const { message } = await refusal({ [name]: 1_800_003_600_000 });
    assert.equal(message, `${name} \`1800003600000\`: that looks like milliseconds; divide by 1000`);
    for (const other of [10_000_000_000_000, 1.5, '1800003600000', -1_800_003_600_000]) {
      assert.match((await refusal({ [name]: other })).message, /is no whole number of seconds/);
    }
  }
  assert.doesNotMatch((await refusal({ expiresIn: 1_800_003_600_000 })).message, /milliseconds/);
});

test('half characters are not signed', async () => {
  for (const name of ['url', 'filename', 'id', 'ip', 'disposition']) {
    const error = await refusal({ [name]: `${name === 'url' ? URL_ : 'a'}\ud83d` });
    assert.equal(error.parameter, name);
    assert.match(error.message, /unpaired surrogate/);
  }
  assert.equal((await refusal({}, { secret: `${SECRET}\udc00` })).parameter, 'secret');
});

test('an error says what was given, and what to write instead', async () => {
  const { message } = await refusal({ filename: 'a/b' });
  assert.equal(message, 'filename `a/b` holds `/` or `\\`; give the name alone, without its folder');
  assert.equal((await refusal({ file_name: 'a' })).message, 'there is no option `file_name`; did you mean `filename`?');
  assert.equal((await refusal({ expires_in: 5 })).message, 'there is no option `expires_in`; did you mean `expiresIn`?');
  assert.match((await refusal({ colour: 5 })).message, /^there is no option `colour`; the options of a link are `url`, /);
  assert.match((await refusal({}, { secrte: 5 })).message, /did you mean `secret`\?/);
  assert.match((await refusal({ filename: 'a\u202eb\nc' })).message, /`a\\u\{202e\}b\\u\{a\}c`/);
  assert.equal((await refusal({ filename: null })).message, 'filename is null; give a string');
  assert.ok((await refusal({ id: 'a b'.repeat(1000) })).message.length < 300);
  await assert.rejects(signer().mint(), { name: 'MintError', parameter: 'options' });
  assert.throws(() => new Signer(), { name: 'MintError', parameter: 'options' });
});

test('a base is the address of a gateway, which answers at / alone', async () => {
  const linkOf = async (base) => (await signer({ base }).mint({ url: URL_ })).link.split('?')[0];
  assert.equal(await linkOf('http://127.0.0.1:8080'), 'http://127.0.0.1:8080/');
  assert.equal(await linkOf('https://gateway.example/'), 'https://gateway.example/');
  for (const base of ['gateway.example', 'ftp://gateway.example', 'https://u:p@gateway.example', 'https://gateway.example/x',
    'https://gateway.example/?', 'https://gateway.example#', 7, undefined]) {
    assert.equal((await refusal({}, { base })).parameter, 'base', base);
  }
});

test('no text form of a signer or an error shows a secret', async () => {
  const made = signer();
  const forms = (value) => [inspect(value, { showHidden: true, depth: 9 }), JSON.stringify(value), `${value}`];
  const shown = forms(made);
  const minted = await made.mint({ url: URL_ });
  shown.push(...forms(made), ...forms(minted));
  for (const [options, more] of [[{}, { kid: SECRET }], [{}, { secret: SECRET.slice(0, 20) }], [{}, { secret: `${SECRET}\n` }],
    [{}, { base: SECRET }], [{ id: `${SECRET}!` }, {}], [{ [SECRET]: 1 }, {}]]) {
    const error = await refusal(options, more);
    shown.push(error.message, error.stack.replace(/parameter: .*/, ''));
  }
  for (const text of shown) assert.ok(!text.includes(SECRET.slice(5, 20)), text);
  assert.equal(JSON.stringify(made), '{"base":"https://gateway.example/","kid":"k"}');
});

test('a secret of one\'s own in another place is not quoted', async () => {
  const secret = 'correct-horse-battery-staple-0123456789';
  for (const more of [{ kid: secret }, { base: secret }, { base: `https://${secret}.example` }]) {
    const fault = await refusal({}, { secret, ...more });
    assert.equal(fault.parameter, Object.keys(more)[0]);
    assert.ok(!fault.message.includes(secret), fault.message);
  }
});

test('what a page put into Object.prototype is not signed and not sent', async (t) => {
  const plain = await signer().mint({ url: 'https://files.example/a', exp: 1800003600 });
  t.after(() => { delete Object.prototype.filename; delete Object.prototype.nbf; });
  Object.prototype.filename = 'evil.exe';
  Object.prototype.nbf = '1';
  assert.equal((await signer().mint({ url: 'https://files.example/a', exp: 1800003600 })).link, plain.link);
});

test('null is no default', async () => {
  assert.equal((await refusal({ expiresIn: null })).parameter, 'expiresIn');
});

test('what a vector cannot tell apart', async () => {
  for (const dot of ['\u3002', '\uff0e', '\uff61']) {
    assert.match((await refusal({ url: `https://files.example${dot}/a` })).message, /ends in a dot/);
  }
  assert.match((await refusal({ url: `${URL_}?${'я'.repeat(2040)}` })).message, /is longer than 4096 bytes/);
});

test("another system's credential in a url is not quoted", async () => {
  const { message } = await refusal({ url: 'https://user:hunter2@files.example/a?X-Amz-Signature=abcdef' });
  assert.equal(message, 'url `https://…@files.example/a?…` carries a user name or password; leave it out');
});

test('the key is imported once, and cannot be exported', async (t) => {
  const { subtle } = globalThis.crypto;
  const imported = t.mock.method(subtle, 'importKey');
  const made = signer();
  const first = await made.mint({ url: URL_, exp: 5 });
  const second = await made.mint({ url: URL_, exp: 5 });
  assert.equal(first.link, second.link);
  assert.equal(imported.mock.callCount(), 1);
  assert.equal(imported.mock.calls[0].arguments[3], false);
});

test('what is minted cannot be changed', async () => {
  const minted = await signer().mint({ url: URL_ });
  assert.ok(minted instanceof Minted);
  assert.throws(() => { minted.link = 'x'; }, TypeError);
});

test('the driver answers each line', async () => {
  const child = spawn(process.execPath, [new URL('driver.js', import.meta.url).pathname], { stdio: ['pipe', 'pipe', 'inherit'] });
  const common = { base: 'https://gateway.example', kid: 'k', secret: SECRET, now: 1800000000 };
  const lines = [{ url: URL_, expires_in: 10, align_to: 60 }, { url: URL_, not_before: '1' }, { url: URL_, expiresIn: 5 }];
  child.stdin.end(lines.map((options) => `${JSON.stringify({ ...common, options })}\n`).join(''));
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  const [good, wrong, foreign] = text.trimEnd().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(Object.keys(good), ['link', 'query', 'string_to_sign', 'signature', 'exp']);
  assert.equal(good.exp, 1800000060);
  assert.equal(wrong.parameter, 'not_before');
  assert.match(foreign.error, /no option/);
});
