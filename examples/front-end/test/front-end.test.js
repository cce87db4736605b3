// The example as a user has it: its own server, a gateway, and Chromium. Needs SLUICEGATE_BINARY, a gateway's program.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { chromium } from '../../../tests/browser/chromium.mjs';

const CHECKOUT = new URL('../../../', import.meta.url);
const GATEWAY = process.env.SLUICEGATE_BINARY;
const SERVER = fileURLToPath(new URL('../server.js', import.meta.url));
const sample = (name) => readFileSync(new URL(`examples/sample/${name}`, CHECKOUT));

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'sluicegate-front-end-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Starts a program that ends with the test; gives the address that it prints. */
async function running(t, program, args, options) {
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  t.after(() => { child.kill(); return ended; });
  for await (const line of createInterface({ input: child.stdout })) {
    const address = /is running: (http:\/\/\S+)/.exec(line)?.[1];
    if (!address) continue;
    child.stdout.resume();
    return address;
  }
  return assert.fail(`${program} ended without an address`);
}

/** The demo's gateway in a folder of its own, and the front end before it. */
async function site(t) {
  const at = folder(t);
  mkdirSync(join(at, 'policy'));
  cpSync(new URL('policy/demo.toml', CHECKOUT), join(at, 'policy/demo.toml'));
  const gateway = await running(t, GATEWAY, ['--listen', '127.0.0.1:0'], { cwd: at });
  const secret = join(at, 'policy/demo.secret');
  const env = { PATH: process.env.PATH, LISTEN: '127.0.0.1:0', SLUICEGATE_BASE: gateway, SLUICEGATE_SECRET_FILE: secret };
  return { gateway, frontEnd: await running(t, process.execPath, [SERVER], { env }) };
}

async function signIn(page, user, password) {
  await page.follow(() => page.evaluate(`(() => {
    document.querySelector('#user').value = '${user}';
    document.querySelector('#password').value = '${password}';
    document.querySelector('form button').click();
  })()`));
}

/** Clicks something that begins a download; resolves with its name when it has ended. */
async function downloaded(browser, page, selector) {
  const { name, state } = await browser.download(() => page.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`));
  assert.equal(state, 'completed');
  return name;
}

/** Resolves when the text of an element is what `pattern` says. */
const textOf = (page, selector, pattern) => page.evaluate(`new Promise((resolve) => {
  const element = document.querySelector(${JSON.stringify(selector)});
  const look = () => ${pattern}.test(element.textContent) && resolve(element.textContent);
  new MutationObserver(look).observe(element, { childList: true, characterData: true, subtree: true });
  look();
})`);

test('in Chromium', { skip: !GATEWAY && 'SLUICEGATE_BINARY names no gateway' }, async (t) => {
  const { frontEnd, gateway } = await site(t);
  const saved = folder(t);
  const browser = chromium(t);
  const page = await browser.open(`${frontEnd}/`);
  await browser.saveTo(saved);

  await t.test('a wrong password is refused', async () => {
    await signIn(page, 'mara', 'guessed');
    assert.match(await page.evaluate('document.querySelector("[role=alert]").textContent'), /do not belong together/);
    assert.equal(await page.evaluate('document.querySelector("[data-file]")'), null);
  });

  await t.test('signed in, she sees her files and nobody else\'s', async () => {
    await signIn(page, 'mara', 'sluice-and-gate');
    const names = await page.evaluate('Array.from(document.querySelectorAll("[data-file] h2"), (name) => name.textContent)');
    assert.deepEqual(names, ['Lock gates, opening.mp4', 'Handbook for keepers.pdf', 'Заметки.txt', 'River survey.bin']);
    assert.equal(await page.evaluate('document.cookie'), '', 'scripts can read the session');
  });

  await t.test('a link downloads the file under her name for it', async () => {
    assert.equal(await downloaded(browser, page, '[data-file=notes] a'), 'Заметки.txt');
    assert.ok(readFileSync(join(saved, 'Заметки.txt')).equals(sample('notes.txt')));
  });

  await t.test('a button downloads with progress', async () => {
    assert.equal(await downloaded(browser, page, '[data-file=clip] button'), 'Lock gates, opening.mp4');
    assert.ok(readFileSync(join(saved, 'Lock gates, opening.mp4')).equals(sample('clip.mp4')));
    assert.equal(await textOf(page, '[data-file=clip] [role=status]', /Done/), 'Done. The file is whole.');
    assert.equal(await page.evaluate('document.querySelector("[data-file=clip] progress").value'), 1);
  });

  await t.test('a download can be cancelled', async () => {
    await page.evaluate('document.querySelector("[data-file=survey] button").click()');
    await textOf(page, '[data-file=survey] [role=status]', /%/);
    await page.evaluate('document.querySelector("[data-file=survey] button").click()');
    assert.equal(await textOf(page, '[data-file=survey] [role=status]', /Cancelled/), 'Cancelled.');
    assert.ok(!readdirSync(saved).some((name) => name.startsWith('River')));
  });

  await t.test('another user\'s file is refused', async () => {
    const asked = (id) => page.evaluate(`fetch('/files/${id}/link', { method: 'POST' })
      .then(async (answer) => ({ status: answer.status, ...await answer.json() }))`);
    assert.deepEqual(await asked('diary'), { status: 404, error: 'There is no such file among yours.' });
    assert.deepEqual(await asked('nothing'), await asked('diary'));
    const hers = await asked('notes');
    assert.ok(hers.link.startsWith(`${gateway}/?url=`) && hers.link.includes('&id=mara-notes&'), hers.link);
    const left = hers.exp - Date.now() / 1000;
    assert.ok(left > 290 && left <= 360 && hers.exp % 60 === 0, `${hers.exp}`);
  });

  await t.test('signed out, nothing is minted', async () => {
    await page.follow(() => page.evaluate('document.querySelector("header form button").click()'));
    const statusOf = (path, options) => page.evaluate(`fetch('${path}', ${options}).then((answer) => answer.status)`);
    assert.equal(await statusOf('/files/notes/link', '{ method: "POST" }'), 401);
    assert.equal(await statusOf('/files/notes/download', '{ redirect: "manual" }'), 401);
  });
  assert.deepEqual(page.complaints, []);
});

test('other sites cannot act for her', { skip: !GATEWAY && 'SLUICEGATE_BINARY names no gateway' }, async (t) => {
  const { frontEnd } = await site(t);
  const form = new URLSearchParams({ user: 'tomas', password: 'lock-and-weir' });
  const post = (path, headers, body) => fetch(`${frontEnd}${path}`, { method: 'POST', headers, body, redirect: 'manual' });
  for (const origin of ['http://evil.example', 'null', undefined]) {
    assert.equal((await post('/sign-in', origin && { origin }, form)).status, 403, origin);
  }
  const signedIn = await post('/sign-in', { origin: frontEnd }, form);
  const cookie = signedIn.headers.get('set-cookie');
  assert.match(cookie, /^session=[\w-]{43}; Path=\/; Max-Age=3600; HttpOnly; SameSite=Strict$/);
  const session = { cookie: cookie.split(';')[0] };
  assert.equal((await post('/files/diary/link', { ...session, origin: frontEnd })).status, 200);
  assert.equal((await post('/files/diary/link', { ...session, origin: 'http://evil.example' })).status, 403);
  assert.equal((await post('/sign-in', { origin: frontEnd }, 'x'.repeat(5000))).status, 413);
  const signedOut = await post('/sign-out', { ...session, origin: frontEnd });
  assert.match(signedOut.headers.get('set-cookie'), /^session=; Path=\/; Max-Age=0; /);
  assert.equal((await post('/files/diary/link', { ...session, origin: frontEnd })).status, 401);
  const policy = (await fetch(frontEnd)).headers.get('content-security-policy');
  assert.match(policy, /^default-src 'none'; script-src 'self'; /);
});

/** Runs the server until it ends; what it complained of, and its exit status. */
function complaint(env, server = SERVER) {
  const child = spawn(process.execPath, [server], { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk) => { text += chunk; });
  return new Promise((resolve) => child.on('close', (status) => resolve({ text, status })));
}

test('what is missing is said, without the secret', async (t) => {
  const checkout = folder(t);
  for (const path of ['examples/front-end', 'clients/javascript/src', 'clients/javascript/package.json']) {
    cpSync(new URL(path, CHECKOUT), join(checkout, path), { recursive: true });
  }
  const fresh = await complaint({}, join(checkout, 'examples/front-end/server.js'));
  assert.equal(fresh.text, 'examples/front-end: the secret `policy/demo.secret` is not there; start the demo first: cargo run\n');
  const absent = await complaint({ SLUICEGATE_SECRET_FILE: join(folder(t), 'none') });
  assert.equal(absent.status, 2);
  assert.match(absent.text, /^examples\/front-end: the secret `.*none` cannot be read \(ENOENT\); set SLUICEGATE_SECRET_FILE/);
  const weak = await complaint({ SLUICEGATE_SECRET_FILE: SERVER, SLUICEGATE_BASE: 'http://127.0.0.1:1' });
  assert.match(weak.text, /^examples\/front-end: SLUICEGATE_SECRET_FILE: secret holds a control character/);
  assert.ok(!weak.text.includes('import'), weak.text);
  const taken = createServer();
  await new Promise((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.after(() => taken.close());
  const secret = join(folder(t), 'secret');
  writeFileSync(secret, 'sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG\n');
  const busy = await complaint({ SLUICEGATE_SECRET_FILE: secret, LISTEN: `127.0.0.1:${taken.address().port}` });
  assert.equal(busy.status, 1);
  assert.match(busy.text, /^examples\/front-end: cannot listen on `127\.0\.0\.1:\d+` \(EADDRINUSE\); set LISTEN to another address$/m);
  assert.match((await complaint({ SLUICEGATE_SECRET_FILE: secret, LISTEN: '3000' })).text, /LISTEN `3000` is no address/);
});
