// Headless Chromium for tests, driven over the pipe of the DevTools protocol, so that nothing needs to be installed for it.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** How long a page may take to become what a test waits for, in milliseconds. */
const PATIENCE = 30_000;

const FLAGS = [
  '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage', '--hide-scrollbars',
  '--remote-debugging-pipe',
];

/** A browser that ends with a test of node:test. */
export function chromium(t) {
  const browser = new Browser();
  t.after(() => browser.close());
  return browser;
}

/** A browser with an empty profile; `close` ends it and takes the profile away. CHROMIUM names another program. */
export class Browser {
  #child;
  #ended;
  #profile = mkdtempSync(join(tmpdir(), 'sluicegate-chromium-'));
  #calls = new Map();
  #listeners = new Set();
  #number = 0;
  #rest = '';

  constructor() {
    this.#child = spawn(process.env.CHROMIUM ?? 'chromium', [...FLAGS, `--user-data-dir=${this.#profile}`, 'about:blank'],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.#ended = new Promise((resolve) => {
      const end = (why) => {
        for (const { reject } of this.#calls.values()) reject(new Error(`Chromium ended: ${why}`));
        this.#calls.clear();
        resolve();
      };
      this.#child.on('exit', end);
      this.#child.on('error', end); // it is not installed, or CHROMIUM names nothing
    });
    for (const pipe of [this.#child.stdio[3], this.#child.stdio[4]]) pipe?.on('error', () => {}); // told by `exit`
    this.#child.stdio[4]?.setEncoding('utf8').on('data', (text) => this.#read(text));
  }

  #read(text) {
    const messages = (this.#rest + text).split('\0');
    this.#rest = messages.pop();
    for (const message of messages.map((one) => JSON.parse(one))) {
      if (message.id === undefined) {
        for (const listener of [...this.#listeners]) listener(message);
        continue;
      }
      const { resolve, reject } = this.#calls.get(message.id);
      this.#calls.delete(message.id);
      if (message.error) reject(new Error(message.error.message));
      else resolve(message.result);
    }
  }

  /** One call of the protocol; `sessionId` names a page. */
  call(method, params = {}, sessionId = undefined) {
    this.#number += 1;
    const id = this.#number;
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.#child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return answer;
  }

  /** Hears every event until it is taken away with the function that comes back. */
  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The first event that `matches` tells from the others. */
  event(matches) {
    return new Promise((resolve) => {
      const deaf = this.listen((message) => {
        if (!matches(message)) return;
        deaf();
        resolve(message.params);
      });
    });
  }

  /** Downloads go to `folder` and tell their progress. */
  saveTo(folder) {
    return this.call('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder, eventsEnabled: true });
  }

  /** What the next download is called and how it ends; `begin` makes it begin. */
  download(begin) {
    return new Promise((resolve, reject) => {
      let name;
      let guid;
      const deaf = this.listen(({ method, params }) => {
        if (method === 'Browser.downloadWillBegin') {
          guid = params.guid;
          name = params.suggestedFilename;
        }
        if (method === 'Browser.downloadProgress' && params.guid === guid && params.state !== 'inProgress') {
          deaf();
          resolve({ name, state: params.state, bytes: params.receivedBytes });
        }
      });
      Promise.resolve(begin()).catch(reject);
    });
  }

  /** A tab of its own, in light or dark, as wide as it is told. */
  async open(url, { width = 1280, height = 900, dark = false } = {}) {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId);
    await page.begin(url, { width, height, dark });
    return page;
  }

  async close() {
    await this.call('Browser.close').catch(() => this.#child.kill());
    await this.#ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** One tab. What it complains of on its console, and what its policy blocked, is in `complaints`; refusals of a server are none. */
class Page {
  complaints = [];
  #browser;
  #session;

  constructor(browser, session) {
    this.#browser = browser;
    this.#session = session;
    browser.listen(({ method, params, sessionId }) => {
      if (sessionId !== session) return;
      if (method === 'Runtime.exceptionThrown') this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === 'Log.entryAdded' && params.entry.level === 'error' && params.entry.source !== 'network') this.complaints.push(`${params.entry.text} ${params.entry.url ?? ''}`);
    });
  }

  call(method, params) {
    return this.#browser.call(method, params, this.#session);
  }

  async begin(url, { width, height, dark }) {
    for (const domain of ['Page', 'Runtime', 'Log']) await this.call(`${domain}.enable`);
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
    await this.scheme(dark);
    await this.goTo(url);
  }

  scheme(dark) {
    return this.call('Emulation.setEmulatedMedia', { features: [
      { name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' },
      // What is about to be clicked shall not glide away.
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ] });
  }

  async goTo(url) {
    await this.follow(async () => {
      const { errorText } = await this.call('Page.navigate', { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
    });
  }

  /** Does what leads to another page, and waits until that is loaded. */
  async follow(action) {
    const loaded = this.#browser.event(({ sessionId, method }) => sessionId === this.#session && method === 'Page.loadEventFired');
    await action();
    await loaded;
  }

  /** The value of an expression in the page; promises are waited for. */
  async evaluate(expression) {
    const how = { awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, ...how });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Waits until an expression holds, looking after each frame. */
  async until(expression) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      const value = await this.evaluate(`(async () => await (${expression}))().then((held) => held || new Promise((go) => setTimeout(() => go(false), 16)))`).catch(() => false);
      if (value) return value;
      if (Date.now() > end) throw new Error(`it never came that ${expression}`);
    }
  }

  /** Gives an element the focus and types over what is in it. */
  async fill(selector, text) {
    await this.evaluate(`(() => { const it = document.querySelector(${JSON.stringify(selector)}); it.focus(); it.select?.(); })()`);
    await this.call('Input.insertText', { text });
  }

  /** Clicks with the mouse where the element is, once it stands still and nothing covers it. */
  async click(selector) {
    const place = await this.until(`(async () => {
      const it = document.querySelector(${JSON.stringify(selector)});
      const frame = () => new Promise((go) => requestAnimationFrame(() => go(it.getBoundingClientRect())));
      it.scrollIntoView({ block: 'center', behavior: 'instant' });
      const [before, box] = [await frame(), await frame()];
      const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
      const there = before.y === box.y && it.contains(document.elementFromPoint(x, y));
      return there && { x, y };
    })()`);
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.call('Input.dispatchMouseEvent', { type, ...place, button: 'left', clickCount: 1 });
    }
  }

  /** Presses a key, such as `Tab` or `Enter`. */
  async press(key) {
    const text = { Enter: '\r', ' ': ' ' }[key];
    const code = { Tab: 9, Enter: 13, ' ': 32 }[key];
    await this.call('Input.dispatchKeyEvent', { type: 'keyDown', key, text, windowsVirtualKeyCode: code });
    await this.call('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode: code });
  }

  /** A picture of the whole page. */
  async picture(path) {
    const { data } = await this.call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
    writeFileSync(path, Buffer.from(data, 'base64'));
  }
}
