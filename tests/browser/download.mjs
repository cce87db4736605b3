// Downloads links with headless Chromium, one after the other, and prints what it saved them as.
//
//   node tests/browser/download.mjs FOLDER LINK...
//
// Speaks the DevTools protocol over the pipe that Chromium offers, so that nothing needs to be installed for it.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [folder, ...links] = process.argv.slice(2);
const browser = process.env.CHROMIUM ?? 'chromium';
const profile = mkdtempSync(join(tmpdir(), 'sluicegate-chromium-'));

const child = spawn(browser, [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage',
  `--user-data-dir=${profile}`, '--remote-debugging-pipe', 'about:blank',
], { stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'] });

const calls = new Map();
const listeners = new Set();
let number = 0;
let rest = '';

child.stdio[4].on('data', (data) => {
  const messages = (rest + data).split('\0');
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    if (message.id === undefined) {
      for (const listener of listeners) listener(message);
    } else if (message.error) {
      calls.get(message.id).reject(new Error(message.error.message));
    } else {
      calls.get(message.id).resolve(message.result);
    }
  }
});

function call(method, params = {}) {
  number += 1;
  const id = number;
  child.stdio[3].write(`${JSON.stringify({ id, method, params })}\0`);
  return new Promise((resolve, reject) => calls.set(id, { resolve, reject }));
}

/** Opens a link in a tab of its own; resolves with the suggested name when the download has ended, however it ended. */
function download(link) {
  return new Promise((resolve, reject) => {
    let name;
    let guid;
    const listen = ({ method, params }) => {
      if (method === 'Browser.downloadWillBegin') {
        guid = params.guid;
        name = params.suggestedFilename;
      }
      if (method === 'Browser.downloadProgress' && params.guid === guid && params.state !== 'inProgress') {
        listeners.delete(listen);
        resolve({ name, state: params.state, bytes: params.receivedBytes });
      }
    };
    listeners.add(listen);
    call('Target.createTarget', { url: link }).catch(reject);
  });
}

const done = [];
try {
  await call('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder, eventsEnabled: true });
  for (const link of links) done.push(await download(link));
  await call('Browser.close');
  await new Promise((resolve) => child.on('exit', resolve));
} finally {
  child.kill();
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
console.log(JSON.stringify(done));
